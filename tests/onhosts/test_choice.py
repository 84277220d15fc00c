"""Which hosts can run a stage, and which is taken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from largeforge.onhosts import choice
from largeforge.onhosts.task import Task
from largeforge.recipe.sections.hosts import Host

GIB = 2**30
TASK = Task(
    recipe="small", stage="train", fingerprint="f", inventory={}, hosts=("a", "b", "c"), device="cuda", gpus=2,
    gpu_names=("NVIDIA L40S",), cores=8, memory_gib=0.0, launcher=None,
)  # fmt: skip
HOST = Host(address="a")


def look(**changed: Any) -> dict[str, Any]:
    gpus = [{"uuid": f"GPU-{index}", "name": "NVIDIA L40S"} for index in range(4)]
    found = {
        "init": True, "root": True, "user": "deploy", "rsync": True, "gpus": gpus, "memory_bytes": 64 * GIB,
        "free_bytes": 100 * GIB,
    }  # fmt: skip
    return {**found, **changed}


def test_a_host_with_what_is_planned_with_will_do() -> None:
    assert choice.unfit(TASK, HOST, look()) == ""


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"init": False}, "systemd does not run there"),
        ({"root": False}, "deploy does not become root there: allow it sudo"),
        ({"rsync": False}, "rsync is not there"),
        ({"gpus": []}, "it has 0 GPUs for it, and has none; 2 × NVIDIA L40S are planned with"),
        ({"gpus": [{"name": "Tesla T4"}] * 4}, "it has 0 GPUs for it, and has Tesla T4"),
        ({"free_bytes": GIB}, "1.0 GiB are free on its disk, and 3.0 are to be brought"),
    ],
)
def test_a_host_that_will_not_do_says_why(changed: dict[str, Any], reason: str) -> None:
    assert choice.unfit(TASK, HOST, look(**changed), bytes_to_bring=3 * GIB).startswith(reason)


def test_the_inventory_limits_the_gpus_of_a_host() -> None:
    assert choice.unfit(TASK, Host(address="a", gpus=1), look()).startswith("it has 1 GPU for it")


def test_a_training_on_processors_needs_the_memory_that_was_planned_with() -> None:
    task = replace(TASK, gpus=0, device="cpu", memory_gib=64)
    assert choice.unfit(task, HOST, look(gpus=[])) == ""
    assert choice.unfit(task, HOST, look(memory_bytes=32 * GIB)) == "it has 32.0 GiB of memory, and 64 are planned with"


def test_the_host_with_the_checkpoints_comes_first() -> None:
    assert choice.ordered(["a", "b", "c"], "c") == ["c", "a", "b"]
    assert choice.ordered(["a", "b", "c"], "") == ["a", "b", "c"]


def test_the_first_free_host_of_the_inventory_is_taken_once_all_have_answered() -> None:
    turn, busy = {"kind": "turn"}, {"kind": "waiting"}
    assert choice.chosen(["a", "b"], {"b": turn}) == ""
    assert choice.chosen(["a", "b"], {"a": turn, "b": turn}) == "a"
    assert choice.chosen(["a", "b"], {"a": busy, "b": turn}) == "b"
    assert choice.chosen(["a", "b"], {"a": busy, "b": busy}) == ""


def test_who_waits_is_told_for_whom() -> None:
    anna = {"who": "anna@desk", "what": "support, train"}
    ben = {"who": "ben@home", "what": "mapper, train"}
    said = {"a": {"kind": "waiting", "position": 2, "ahead": [ben], "holders": [anna]}}
    assert choice.waiting_text(said) == (
        "waiting for a host: a: place 2 in line, anna@desk (support, train) computes there; before us "
        "ben@home (mapper, train)"
    )
