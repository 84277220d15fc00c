"""The processes of a strategy on several hosts of the inventory (`hosts=`), over ssh, with a c10d rendezvous."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from largeforge.cluster.spec import Node, Spec
from largeforge.launchers import ddp, deepspeed, fsdp2
from largeforge.recipe import extensions, launching
from largeforge.recipe.base import Extension, Port

if TYPE_CHECKING:
    from largeforge.estimate import sharding as estimate
    from largeforge.recipe.launching import Place
    from largeforge.recipe.sections.hosts import Host

Strategy = Annotated[ddp.Config | fsdp2.Config | deepspeed.Config, Field(discriminator="name")]


class Config(Extension):
    """Several hosts that train one model."""

    name: Literal["multi_node"] = "multi_node"
    strategy: Strategy = ddp.Config()
    """How the model is spread over all processes, with the fields of the launcher of that name."""
    rdzv_port: Port = 29400
    """Port of the first host at which processes meet."""
    connect_timeout_s: float = Field(default=60, gt=0)
    """Time in which every host must have answered."""
    lost_after_s: float = Field(default=30, ge=5)
    """Silence after which a host, or this machine for a host, counts as gone and the training ends."""


def world_size(config: Config, place: Place) -> int:
    """Return how many processes the worker must find itself among."""
    return sum(_processes(config, host, place) for host in place.hosts.values())


def sharding(config: Config, place: Place) -> estimate.Sharding:
    """Return how training is spread over GPUs."""
    module = extensions.load("launcher", config.strategy.name)
    spread: estimate.Sharding = module.sharding(config.strategy, place)
    return replace(spread, gpus=world_size(config, place))


def strategy(config: Config) -> launching.Strategy:
    """Return what the worker is told: the strategy, wherever its processes run."""
    return config.strategy.model_copy(update={"num_processes": 0})


def command(config: Config, module_args: list[str], place: Place) -> list[str]:
    """Return the argv that runs `python -m module_args…` in all processes of all hosts."""
    nodes = tuple(_node(config, name, module_args, place) for name in place.hosts)
    spec = Spec(
        str(place.folder), nodes, config.connect_timeout_s, config.lost_after_s, ssh_config=place.ssh_config
    )  # fmt: skip
    return [place.python, "-m", "largeforge.cluster.nodes", spec.encode()]


def _node(config: Config, name: str, module_args: list[str], place: Place) -> Node:
    host, first = place.hosts[name], next(iter(place.hosts.values()))
    processes = _processes(config, host, place)
    meeting = sha256(str(place.folder).encode()).hexdigest()[:12]
    rendezvous = (
        f"--nnodes={len(place.hosts)}", "--rdzv-backend=c10d", f"--rdzv-id={meeting}",
        f"--rdzv-endpoint={_reached_at(first)}:{config.rdzv_port}", f"--local-addr={_reached_at(host)}",
        f"--rdzv-conf=is_host={int(host is first)},join_timeout={round(config.connect_timeout_s)}",
    )  # fmt: skip
    there = replace(place, python=host.python or place.python)
    argv = launching.torchrun(module_args, there, processes=processes, rendezvous=rendezvous)
    return Node(
        name, host.address, _reached_at(host), tuple(argv), gpus=processes if place.device == "cuda" else 0,
        python=there.python, workdir=host.workdir or place.workdir, user=host.user, port=host.port,
    )  # fmt: skip


def _processes(config: Config, host: Host, place: Place) -> int:
    return launching.processes(config.strategy, place, gpus=host.num_gpus)


def _reached_at(host: Host) -> str:
    return "127.0.0.1" if host.reached_at == "local" else host.reached_at
