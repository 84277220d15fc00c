"""A running Ray cluster: joining it, reserving room on its nodes, and what each process of a training is told there."""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from largeforge.cluster import ray_worker

if TYPE_CHECKING:
    from largeforge.cluster.spec import RaySpec

CONNECT_S = 15.0
PLACE_S = 0.5
TELL_AFTER_S = 5.0
"""How long Ray may take to give room that is free."""
_MISMATCH = re.compile(r"Ray: (\S+)\s+Python: (\S+)")


class Unavailable(Exception):
    """The cluster cannot be joined, or has no room."""


@dataclass(frozen=True)
class Seat:
    """Where one process runs, and which one it is."""

    worker: Any
    """The actor."""
    rank: int
    local_rank: int
    local_size: int
    """Processes on its node."""
    host: str
    address: str
    gpus: tuple[str, ...]
    """GPUs of all processes on its node, in their order."""
    versions: Mapping[str, str]

    @property
    def name(self) -> str:
        """The process in a log line."""
        return f"{self.host}:{self.rank}"


def join(address: str) -> None:
    """Become a driver of a cluster; raises Unavailable. Ray then neither prints nor reports on its use."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    try:
        _require_answer(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # ConnectionError, RuntimeError, ValueError and grpc's own, by the way of joining
        raise Unavailable(_refused(address, str(error), type(error).__name__)) from error


def _require_answer(address: str) -> None:
    """Raise OSError where nobody listens at the address: Ray itself would try for minutes."""
    given = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address
    host, colon, port = given.split("://")[-1].split("?")[0].rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()


def _refused(address: str, said: str, kind: str) -> str:
    where = f"the Ray cluster (launcher.address={address})"
    versions = _MISMATCH.findall(said)
    if "ersion mismatch" in said and len(versions) == 2:
        (ray, python), (own_ray, own_python) = versions
        return f"{where} has Ray {ray} and Python {python}, this machine Ray {own_ray} and Python {own_python}"
    first = next((line.strip() for line in said.splitlines() if line.strip()), kind)
    return f"{where} cannot be joined: {first}"


def reserve(spec: RaySpec, *, is_stopped: Callable[[], bool], waiting: Callable[[str], None]) -> Any:
    """Return a placement group with room for all processes; None when stopped before there is room.

    Raises Unavailable after `queue_timeout_s`; `waiting` is called once when there is no room yet.
    """
    import ray
    from ray.util.placement_group import placement_group

    group = placement_group([spec.bundle] * spec.nodes, strategy=spec.placement)
    began, told = time.monotonic(), False
    while not is_stopped():
        if group.wait(PLACE_S):
            return group
        waited_s = time.monotonic() - began
        if waited_s > spec.queue_timeout_s:
            lack = shortage(spec, ray.nodes(), _free())
            raise Unavailable(f"no room within {spec.queue_timeout_s:g} s (launcher.queue_timeout_s) on {lack}")
        if waited_s > TELL_AFTER_S and not told:
            told = True
            waiting(f"waiting for room on {shortage(spec, ray.nodes(), _free())}")
    return None


def _free() -> dict[str, dict[str, float]]:
    """Return what is free on each node, by its id."""
    from ray._private.state import available_resources_per_node

    try:
        return dict(available_resources_per_node())
    except Exception:  # a client from outside (ray://) is not told
        return {}


def shortage(spec: RaySpec, nodes: Sequence[Mapping[str, Any]], free: Mapping[str, Mapping[str, float]]) -> str:
    """Say what is asked of a cluster, and what its nodes (`ray.nodes()`) have."""
    asked = ", ".join(f"{amount:g} {name}" for name, amount in spec.bundle.items())
    alive = sorted((node for node in nodes if node["Alive"]), key=lambda node: str(node["NodeManagerHostname"]))
    has = [
        f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}): "
        + ", ".join(_amount(name, node["Resources"], free.get(node["NodeID"])) for name in spec.bundle)
        for node in alive
    ]
    each = f"{spec.nodes} node{'s' if spec.nodes > 1 else ''} with {asked}{' each' if spec.nodes > 1 else ''}"
    there = f"it has {len(alive)} node{'' if len(alive) == 1 else 's'}"
    return f"the Ray cluster: {each} asked for ({spec.placement}), {there}: {'; '.join(has)}"


def _amount(name: str, total: Mapping[str, float], free: Mapping[str, float] | None) -> str:
    there = f"{total.get(name, 0):g} {name}"
    return there if free is None else f"{free.get(name, 0):g} of {there} free"


def seats(spec: RaySpec, group: Any) -> list[Seat]:
    """Start an actor for each process and return which one each is: the processes of a node one after the other."""
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    ray.cloudpickle.register_pickle_by_value(ray_worker)
    made: Any = ray.remote(ray_worker.Worker)
    actors = [
        made.options(
            num_cpus=spec.cpus, num_gpus=spec.gpus, max_concurrency=4,
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index),
        ).remote()
        for index in range(spec.nodes)
        for _ in range(spec.processes)
    ]  # fmt: skip
    return ranked(list(zip(actors, ray.get([actor.facts.remote() for actor in actors]), strict=True)))


def ranked(found: Sequence[tuple[Any, Mapping[str, Any]]]) -> list[Seat]:
    """Number the processes, by what their actors say of themselves."""
    by_node: dict[str, list[tuple[Any, Mapping[str, Any]]]] = {}
    for actor, facts in found:
        by_node.setdefault(facts["node"], []).append((actor, facts))
    return [Seat(rank=rank, **fields) for rank, fields in enumerate(_numbered(by_node.values()))]


def _numbered(nodes: Iterable[list[tuple[Any, Mapping[str, Any]]]]) -> Iterator[dict[str, Any]]:
    for there in nodes:
        gpus = tuple(str(gpu) for _, facts in there for gpu in facts["gpus"])
        for local_rank, (actor, facts) in enumerate(there):
            yield {
                "worker": actor, "local_rank": local_rank, "local_size": len(there), "host": facts["name"],
                "address": facts["address"], "gpus": gpus, "versions": facts["versions"],
            }  # fmt: skip


def environment(seat: Seat, spec: RaySpec, *, first: Seat, port: int, size: int) -> dict[str, str]:
    """Return what tells a process which one it is, where all meet, and what of its node is its own."""
    threads = str(max(1, int(spec.cpus)) * seat.local_size)  # the worker divides them by the processes of its node
    found = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    if seat.gpus:
        found["CUDA_VISIBLE_DEVICES"] = ",".join(seat.gpus)
    if not spec.meets:
        return found
    return {
        **found, "MASTER_ADDR": first.address, "MASTER_PORT": str(port), "WORLD_SIZE": str(size),
        "RANK": str(seat.rank), "LOCAL_RANK": str(seat.local_rank), "LOCAL_WORLD_SIZE": str(seat.local_size),
    }  # fmt: skip
