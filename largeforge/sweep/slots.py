"""Divide the machine among trials: GPUs of their own, and a share of the cores and the memory each."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from largeforge import hardware, processor
from largeforge.recipe import extensions, launching
from largeforge.recipe.host_checks import training_hosts

if TYPE_CHECKING:
    from largeforge.plan import Plan
    from largeforge.recipe.schema import Host

LEAST_MEMORY_GIB = 1.5
"""What a CPU trial is taken to need at least: the libraries of its processes alone take some 0.8 GiB."""
USABLE_SHARE = 0.9
"""Share of the free memory that trials may fill together."""


@dataclass(frozen=True)
class Slot:
    """Room for one trial."""

    cores: int
    gpus: tuple[str, ...] = ()
    """Indices or UUIDs for CUDA_VISIBLE_DEVICES; empty on a CPU."""

    def environment(self) -> dict[str, str]:
        """Return what the trial's process must find in its environment."""
        return {"CUDA_VISIBLE_DEVICES": ",".join(self.gpus)} if self.gpus else {}


@dataclass(frozen=True)
class Machine:
    """What there is to divide."""

    cores: int
    gpus: tuple[str, ...]
    free_memory_gib: float


def this_machine() -> Machine:
    """Return what this process may use; CUDA_VISIBLE_DEVICES narrows the GPUs."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    every = tuple(str(index) for index in range(len(hardware.gpus())))
    chosen = every if named is None else tuple(part.strip() for part in named.split(",") if part.strip())
    return Machine(processor.cores(), chosen if every else (), processor.free_memory_gib())


def slots(plan: Plan, num_trials: int, jobs: int, machine: Machine, *, memory_gib: float = 0.0) -> list[Slot]:
    """Return the room for trials like this one, one entry for each that runs at a time.

    `jobs` overrides how many; GPUs are then shared in turn where there are too few. `memory_gib`
    is the estimated peak of one trial in the machine's memory (0 for unknown), which limits
    trials on a CPU.
    """
    num_trials = max(num_trials, 1)
    if hosts := training_hosts(plan.recipe):
        each = launching.local_processes(plan.recipe, plan.machine)
        places = sum(places_of(host, each, plan.machine.device) for host in hosts.values())
        if plan.recipe.launcher.name == "multi_node":
            places = 1  # each trial takes all of them
        return [Slot(plan.recipe.hardware.cores)] * min(jobs or places, num_trials)
    if plan.machine.device == "cuda":
        return _gpu_slots(plan, min(jobs or num_trials, num_trials), bool(jobs), machine)
    own = plan.recipe.hardware.cores
    fit = max(1, machine.cores // own) if own else machine.cores
    if machine.free_memory_gib:
        fit = min(fit, int(machine.free_memory_gib * USABLE_SHARE / max(memory_gib, LEAST_MEMORY_GIB)))
    count = min(jobs or max(1, fit), num_trials)
    return [Slot(own or max(1, machine.cores // count))] * count


def places_of(host: Host, gpus: int, device: str) -> int:
    """Return how many trials with so many GPUs each are given to a host at a time; its own queue has the last word.

    One where the inventory leaves its GPUs to be read from it: a sweep is planned without asking hosts.
    """
    return max(1, host.num_gpus // max(gpus, 1)) if device == "cuda" else 1


def _gpu_slots(plan: Plan, wanted: int, is_forced: bool, machine: Machine) -> list[Slot]:
    launcher, place = plan.recipe.launcher, launching.place(plan.recipe, plan.machine)
    processes = extensions.load("launcher", launcher.name).world_size(launcher, place)
    each = max(plan.recipe.hardware.num_gpus, processes, 1)
    groups = [machine.gpus[start : start + each] for start in range(0, len(machine.gpus) - each + 1, each)]
    groups = groups or [machine.gpus]  # too few: the trial itself says so
    count = wanted if is_forced else min(wanted, len(groups))
    cores = plan.recipe.hardware.cores or max(1, machine.cores // count)
    return [Slot(cores, groups[index % len(groups)]) for index in range(count)]


def words(plan: Plan, found: list[Slot]) -> list[str]:
    """Return the overrides that hold a trial to its slot; none where one trial has the whole machine."""
    wanted = plan.recipe.hardware
    given = [] if wanted.cores or len(found) == 1 else [f"hardware.cores={found[0].cores}"]
    if found[0].gpus and not wanted.num_gpus:
        given.append(f"hardware.num_gpus={len(found[0].gpus)}")
    return given
