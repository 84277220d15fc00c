"""What all launchers share: the place where a training runs, and what its worker processes are told.

A *strategy* (single, ddp, fsdp2, deepspeed) says how a model is spread over processes; it is also the launcher
for one machine. Other launchers (multi_node, slurm, ray) start the processes of a strategy elsewhere. The worker is
given the strategy alone, so that where a training runs is no part of its identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from largeforge.errors import Problem, RecipeError
from largeforge.recipe.base import Extension

if TYPE_CHECKING:
    from largeforge.hardware import Machine
    from largeforge.recipe.schema import Recipe
    from largeforge.recipe.sections.hosts import Host


@dataclass(frozen=True)
class Place:
    """Where a training runs, besides what the launcher itself says."""

    device: str
    num_gpus: int
    """GPUs of each machine; 0 where the device is the CPU."""
    hosts: Mapping[str, Host] = field(default_factory=dict)
    """Machines of the inventory that train together under `launcher=multi_node`, by name."""
    python: str = ""
    """Interpreter of the stages."""
    folder: Path = Path()
    """Folder of the stage; empty while only planning."""
    workdir: str = ""
    """Directory that the command was given in, where a process runs."""


@dataclass(frozen=True)
class WorkerSettings:
    """What a strategy's worker process needs before it imports torch."""

    environment: dict[str, str] = field(default_factory=dict)
    """Variables that accelerate reads."""
    files: dict[Path, Any] = field(default_factory=dict)
    """JSON files that they name, written first."""


class Strategy(Extension):
    """Settings of a launcher that says how a model is spread over processes."""

    num_processes: int = Field(default=0, ge=0)
    """Processes on each machine; 0 means one for each GPU, and one on a CPU."""


def place(recipe: Recipe, machine: Machine, *, python: str = "", folder: Path = Path()) -> Place:
    """Return where a recipe trains on a machine."""
    workdir = str(Path.cwd()) if python else ""
    hosts = recipe.hosts.for_training() or dict(list(recipe.hosts.hosts.items())[:1])
    return Place(machine.device, machine.num_gpus, hosts, python, folder, workdir)


def processes(strategy: Strategy, place: Place, *, gpus: int = 0) -> int:
    """Return how many processes run on one machine; `gpus` are those of that machine where they are known.

    Raises RecipeError when there are more than GPUs: NCCL takes one process for each.
    """
    there = max(1, gpus or place.num_gpus) if place.device == "cuda" else strategy.num_processes
    if strategy.num_processes > there:
        rule = f"{strategy.num_processes} processes take as many GPUs, and there are {there} on a machine."
        raise RecipeError([Problem("launcher", rule)])
    return strategy.num_processes or there or 1


def local_processes(recipe: Recipe, machine: Machine) -> int:
    """Return how many processes of a training share one machine."""
    spread = getattr(recipe.launcher, "strategy", recipe.launcher)
    return processes(spread, place(recipe, machine)) if isinstance(spread, Strategy) else 1


def torchrun(module_args: list[str], place: Place, *, processes: int, rendezvous: tuple[str, ...] = ()) -> list[str]:
    """Return the argv that runs `python -m module_args…` in processes of this machine under torch's elastic agent.

    `rendezvous` are options that make the agents of several machines find each other.
    """
    alone = ("--nnodes=1", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1")
    options = (*(rendezvous or alone), f"--nproc-per-node={processes}")
    return [place.python, "-m", "torch.distributed.run", *options, "-m", *module_args]
