"""What a stage needs of a host, as its runner tells the process that takes the stage's place."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge import artifacts
from largeforge.recipe import extensions, launching
from largeforge.recipe.host_checks import COMPUTED, training_hosts
from largeforge.recipe.sections.hosts import Hosts

if TYPE_CHECKING:
    from largeforge.plan import Plan, Stage

FILE = "on_hosts.json"


@dataclass(frozen=True)
class Task:
    """One stage and the hosts that it may run on."""

    recipe: str
    stage: str
    fingerprint: str
    inventory: dict[str, Any]
    hosts: tuple[str, ...]
    """Names of the hosts that may be taken, the preferred one first; of a training on several, those that it takes."""
    device: str
    gpus: int
    """GPUs that it computes on; 0 for the processors."""
    gpu_names: tuple[str, ...]
    """Names that the driver gives to GPUs that were planned with; empty takes any."""
    cores: int
    memory_gib: float
    """Memory of a host that was planned with, where the device is the CPU."""
    launcher: dict[str, Any] | None
    gpus_of: dict[str, int] = field(default_factory=dict)
    """GPUs on each host of a training that takes them all; empty for a stage of one host."""
    requirements: tuple[str, ...] = ()
    """Packages that the recipe pins on top of the environment."""

    def write(self, folder: Path) -> Path:
        """Write it beside the stage's own file."""
        artifacts.write_json(folder / FILE, asdict(self))
        return folder / FILE

    @classmethod
    def read(cls, folder: Path) -> Task:
        """Read what `write` wrote into the folder of a stage."""
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
        lists = {name: tuple(found[name]) for name in ("hosts", "gpu_names", "requirements")}
        return cls(**{**found, **lists})

    @property
    def hosts_file(self) -> Hosts:
        """The inventory."""
        return Hosts.model_validate(self.inventory)

    @property
    def takes_all(self) -> bool:
        """Whether all hosts train together, rather than one of them."""
        return bool(self.gpus_of)

    def on(self, host: str) -> Task:
        """Return it with what it needs of one host."""
        return replace(self, gpus=self.gpus_of.get(host, self.gpus))


def is_on_hosts(plan: Plan, stage: Stage) -> bool:
    """Whether a stage is run on a host rather than here."""
    return stage.kind in COMPUTED and bool(training_hosts(plan.recipe))


def task_of(plan: Plan, stage: Stage) -> Task:
    """Return what a stage needs of a host."""
    recipe, machine = plan.recipe, plan.machine
    hardware = recipe.hardware
    is_gpu = machine.device == "cuda"
    hosts = training_hosts(recipe)
    names = tuple(dict.fromkeys(name for name in (hardware.gpu, *hardware.gpu_names) if name))
    return Task(
        recipe=recipe.name, stage=stage.name, fingerprint=stage.fingerprint,
        inventory=recipe.hosts.model_dump(mode="json"), hosts=tuple(hosts), device=machine.device,
        gpus=launching.local_processes(recipe, machine) if is_gpu and stage.kind != "init" else 0,
        gpu_names=names if is_gpu else (), cores=hardware.cores,
        memory_gib=0.0 if is_gpu else machine.memory_gib, launcher=stage.launcher,
        gpus_of=_gpus_of(plan) if stage.launcher and stage.launcher["name"] == "multi_node" else {},
        requirements=tuple(recipe.environment.requirements),
    )  # fmt: skip


def _gpus_of(plan: Plan) -> dict[str, int]:
    """Return how many GPUs each of several hosts gives: one for each of its processes."""
    place = launching.place(plan.recipe, plan.machine)
    launcher = extensions.load("launcher", "multi_node")
    is_gpu = plan.machine.device == "cuda"
    return {
        name: launcher.processes_of(plan.recipe.launcher, host, place) if is_gpu else 0
        for name, host in place.hosts.items()
    }


def command_on_hosts(plan: Plan, stage: Stage, folder: Path) -> list[str]:
    """Return the argv of the process that takes a stage's place."""
    task_of(plan, stage).write(folder)
    return [sys.executable, "-m", "largeforge.onhosts.proxy", str(folder)]
