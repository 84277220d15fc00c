"""Who gets which part of the machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from largeforge.planning import make_plan
from largeforge.recipe.compose import compose
from largeforge.recipe.validate import validate
from largeforge.sweep.slots import Machine, Slot, slots, this_machine, words

if TYPE_CHECKING:
    from largeforge.plan import Plan

EIGHT = Machine(cores=32, gpus=tuple("01234567"), free_memory_gib=256)


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A plan for a CPU."""
    monkeypatch.chdir(tmp_path)
    return made("hardware=cpu")


def made(*given: str) -> Plan:
    composition = compose(["+recipe=sft_qwen7b", "dataset.path=rows.jsonl", *given])
    Path("rows.jsonl").write_text('{"prompt": "a", "response": "b"}\n')
    return make_plan(validate(composition))


def test_a_cpu_is_shared_by_cores(plan: Plan) -> None:
    machine = Machine(cores=8, gpus=(), free_memory_gib=64)
    assert slots(plan, 20, 0, machine) == [Slot(1)] * 8
    assert slots(plan, 2, 0, machine) == [Slot(4)] * 2
    assert slots(plan, 20, 3, machine) == [Slot(2)] * 3
    assert words(plan, [Slot(4)] * 2) == ["hardware.cores=4"]
    assert words(plan, [Slot(8)]) == []


def test_the_recipes_own_cores_are_respected(plan: Plan) -> None:
    own = made("hardware=cpu", "hardware.cores=3")
    found = slots(own, 20, 0, Machine(cores=8, gpus=(), free_memory_gib=64))
    assert found == [Slot(3)] * 2
    assert words(own, found) == []


def test_memory_limits_how_many_trials_fit(plan: Plan) -> None:
    small = Machine(cores=8, gpus=(), free_memory_gib=10)
    assert len(slots(plan, 20, 0, small)) == 6
    assert len(slots(plan, 20, 0, small, memory_gib=4)) == 2
    assert len(slots(plan, 20, 0, replace(small, free_memory_gib=1))) == 1
    assert len(slots(plan, 20, 5, small, memory_gib=4)) == 5


def test_each_trial_gets_a_gpu_of_its_own(plan: Plan) -> None:
    gpu = made("hardware=rtx_4090", "hardware.num_gpus=0")
    found = slots(gpu, 20, 0, EIGHT)
    assert [slot.gpus for slot in found] == [(str(index),) for index in range(8)]
    assert found[3].environment() == {"CUDA_VISIBLE_DEVICES": "3"}
    assert words(gpu, found) == ["hardware.cores=4", "hardware.num_gpus=1"]


def test_trials_with_several_gpus_get_as_many(plan: Plan) -> None:
    wide = made("hardware=rtx_4090", "hardware.num_gpus=3")
    assert [slot.gpus for slot in slots(wide, 20, 0, EIGHT)] == [("0", "1", "2"), ("3", "4", "5")]


def test_more_jobs_than_gpus_share_them_in_turn(plan: Plan) -> None:
    gpu = made("hardware=rtx_4090")
    two = replace(EIGHT, gpus=("0", "1"))
    assert [slot.gpus for slot in slots(gpu, 20, 3, two)] == [("0",), ("1",), ("0",)]
    assert len(slots(gpu, 1, 3, two)) == 1


def test_only_visible_gpus_are_given_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("largeforge.hardware.gpus", lambda: ("a", "b", "c"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-4f1c")
    assert this_machine().gpus == ("2", "GPU-4f1c")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert this_machine().gpus == ("0", "1", "2")


def test_trials_are_spread_over_the_hosts_of_an_inventory(plan: Plan) -> None:
    there = ("hardware=rtx_4090", "hardware.num_gpus=1", "hardware.cores=4")
    far = ("++hosts.hosts.far.address=10.0.0.1", "++hosts.hosts.far.gpus=2", "++hosts.hosts.off.address=10.0.0.2")
    found = made(*there, *far)
    assert slots(found, 20, 0, EIGHT) == [Slot(4)] * 3, "two GPUs of one, and one of a host that was not asked"
    assert slots(found, 2, 0, EIGHT) == [Slot(4)] * 2
    assert slots(found, 20, 6, EIGHT) == [Slot(4)] * 6
    assert words(found, slots(found, 20, 0, EIGHT)) == []
