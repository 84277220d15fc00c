"""What a Ray cluster is asked for, and which process is which, without a cluster."""

from __future__ import annotations

import io
import json
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from largeforge import events
from largeforge.cluster import ray_cluster, ray_training
from largeforge.cluster.blame import cause
from largeforge.cluster.ray_training import Link
from largeforge.cluster.ray_worker import Worker
from largeforge.cluster.spec import RaySpec
from tests.e2e.workspace import processes, wait_for

SPEC = RaySpec("/runs/x", "auto", ("largeforge.stages", "/runs/x/stage.json"), nodes=2, processes=2, cpus=3, gpus=1,
               placement="STRICT_SPREAD", queue_timeout_s=60, lost_after_s=30)  # fmt: skip


def facts(node: str, *gpus: str, **versions: str) -> dict[str, Any]:
    return {"node": node, "name": node, "address": f"10.0.0.{ord(node) - 96}", "gpus": gpus,
            "versions": {"ray": "2.60.0", "python": "3.11.7", **versions}}  # fmt: skip


SEATS = ray_cluster.ranked([(None, facts(node, gpu)) for node, gpu in (("b", "4"), ("a", "0"), ("b", "1"), ("a", "1"))])


def link(seat: ray_cluster.Seat, **fields: Any) -> Link:
    return Link(seat, **{"is_over": True, "ended": 0, **fields})


def test_processes_of_a_node_follow_each_other_and_see_all_its_gpus() -> None:
    told = [ray_cluster.environment(seat, SPEC, first=SEATS[0], port=1234, size=4) for seat in SEATS]
    assert [(one["RANK"], one["LOCAL_RANK"], one["CUDA_VISIBLE_DEVICES"]) for one in told] == [
        ("0", "0", "4,1"), ("1", "1", "4,1"), ("2", "0", "0,1"), ("3", "1", "0,1")
    ]  # fmt: skip
    assert [seat.host for seat in SEATS] == ["b", "b", "a", "a"]
    for one in told:
        assert (one["MASTER_ADDR"], one["MASTER_PORT"], one["WORLD_SIZE"]) == ("10.0.0.2", "1234", "4")
        assert one["LOCAL_WORLD_SIZE"] == "2"
        assert one["OMP_NUM_THREADS"] == "6", "three for each; the worker divides them"


def test_one_process_alone_is_told_of_no_others() -> None:
    (seat,) = ray_cluster.ranked([(None, facts("a"))])
    spec = replace(SPEC, nodes=1, processes=1, gpus=0, meets=False)
    told = ray_cluster.environment(seat, spec, first=seat, port=1, size=1)
    assert told == {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3"}


def test_a_shortage_says_what_is_asked_and_what_each_node_has() -> None:
    node = {"Alive": True, "NodeID": "1", "NodeManagerHostname": "a", "NodeManagerAddress": "10.0.0.1"}
    nodes = [{**node, "Resources": {"CPU": 8.0, "GPU": 2.0}}, {**node, "NodeID": "2", "Alive": False}]
    assert ray_cluster.shortage(SPEC, nodes, {"1": {"CPU": 8.0}}) == (
        "the Ray cluster: 2 nodes with 6 CPU, 2 GPU each asked for (STRICT_SPREAD), it has 1 node: "
        "a (10.0.0.1): 8 of 8 CPU free, 0 of 2 GPU free"
    )
    assert ray_cluster.shortage(SPEC, nodes, {}).endswith("a (10.0.0.1): 8 CPU, 2 GPU")


def test_another_version_of_ray_or_python_is_named() -> None:
    said = """Version mismatch: The cluster was started with:
    Ray: 2.59.0
    Python: 3.12.1
This process on node 10.0.0.1 was started with:
    Ray: 2.60.0
    Python: 3.11.7
"""
    assert ray_cluster._refused("auto", said, "RuntimeError") == (
        "the Ray cluster (launcher.address=auto) has Ray 2.59.0 and Python 3.12.1, this machine Ray 2.60.0 and "
        "Python 3.11.7"
    )


@pytest.mark.parametrize("where", ["versions", "seat"])
def test_nodes_with_different_packages_are_named(where: str) -> None:
    first, second = link(SEATS[0], versions={"largeforge": "1.0"}), link(SEATS[2], versions={"largeforge": "1.0"})
    assert ray_training.different_versions([first, second]) == ""
    if where == "seat":
        second.seat = replace(second.seat, versions={"ray": "2.60.0", "python": "3.11.9"})
        expected = "b (10.0.0.2) has python 3.11.7, a (10.0.0.1) has 3.11.9"
    else:
        second.versions = {"largeforge": "1.1"}
        expected = "b (10.0.0.2) has largeforge 1.0, a (10.0.0.1) has 1.1"
    assert ray_training.different_versions([first, second]) == f"hosts must have the same packages: {expected}"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ended": 137}, "host a (10.0.0.1): one of its worker processes (rank 3) was killed by SIGKILL"),
        ({"ended": None, "lost": "The actor died"}, "host a (10.0.0.1): rank 3 is gone: The actor died."),
        ({"ended": None}, "host a (10.0.0.1): rank 3 is gone: its agent was killed."),
        ({"ended": 1, "failed": {"error": "no memory"}}, "host a (10.0.0.1): no memory"),
    ],
)
def test_the_process_that_failed_first_is_named(fields: dict[str, Any], message: str) -> None:
    peer = {"ended": 1, "failed": {"error": "RuntimeError: [gloo] Connection closed by peer"}}
    links = [link(SEATS[0], **peer), link(SEATS[3], **fields), link(SEATS[1])]
    assert all(one.has_failed for one in links[:2]) and not links[2].has_failed
    assert cause([one.ending() for one in links if one.has_failed]).message().startswith(message)


def test_nobody_at_the_address_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="Ray is an extra")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ray_cluster.Unavailable, match=r"launcher.address=auto\) cannot be joined: .*refused"):
            ray_cluster.join("auto")


@pytest.fixture
def order(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "token").write_text("here")
    (tmp_path / "slow.py").write_text("import time, sys; print('begun', *sys.argv, flush=True); time.sleep(600)")
    return {"module": ["slow", "mark-of-slow"], "address": "127.0.0.1", "gpus": 0, "workdir": str(tmp_path),
            "token": "here", "token_path": str(tmp_path / "token"), "lost_after_s": 30, "environment": {}}  # fmt: skip


def test_an_actor_runs_an_agent_and_its_end_is_the_agents(order: dict[str, Any]) -> None:
    worker = Worker()
    worker.start(order)
    lines: list[str] = []
    while not lines:
        lines += worker.read(1)[0]
    assert "versions" in json.loads(lines[0])
    worker.tell("go")
    while len(lines) < 2:
        lines += worker.read(1)[0]
    assert lines[1].startswith("begun") and processes("mark-of-slow")
    worker.let_go()
    code = None
    while code is None:
        code = worker.read(1)[1]
    wait_for(lambda: not processes("mark-of-slow"), timeout_s=10)


def test_a_run_without_a_cluster_fails_with_one_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(address: str) -> None:
        raise ray_cluster.Unavailable(f"nothing at {address}")

    monkeypatch.setattr(ray_cluster, "join", refuse)
    monkeypatch.setattr(ray_training.Training, "_hear_signals", lambda self: None)
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    passed = io.StringIO()
    training = ray_training.Training(SPEC, events.Events("train", passed), passed=passed, log=io.StringIO())
    assert training.run() == 1
    (event,) = map(json.loads, passed.getvalue().splitlines())
    assert (event["kind"], event["error"]) == ("failed", "nothing at auto")
