"""A folder from which trainings are sent to the test hosts: inventories, a small recipe, commands that one follows."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.test_training import SMALL, rows
from tests.e2e.workspace import environment, wait_for
from tests.hosts.machines import ROOT, Machine, Machines

PYTHON = "/usr/local/bin/largeforge-python"
SIZE = ("hardware.cores=1", "hardware.memory_gib=2")
PATIENCE_S = 300
JOBS = "var/lib/largeforge/trainings/deploy/jobs"


@dataclass
class Controller:
    """One command of a person, with what it has said."""

    process: subprocess.Popen[str]
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text()

    @property
    def step(self) -> int:
        return max((int(step) for step in re.findall(r"step (\d+)/", self.said)), default=0)

    def wait_for(self, text: str) -> None:
        wait_for(lambda: text in self.said or self.process.poll() is not None, timeout_s=PATIENCE_S)
        assert text in self.said, self.said

    def reach(self, step: int) -> None:
        wait_for(lambda: self.step >= step or self.process.poll() is not None, timeout_s=PATIENCE_S)
        assert self.step >= step, self.said

    def ended(self, code: int = 0) -> str:
        assert self.process.wait(PATIENCE_S) == code, self.said
        return self.said

    def stop(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)
        self.process.wait(60)


@dataclass
class Lab:
    """A person's working directory with inventories of test hosts."""

    path: Path
    hosts: Machines
    controllers: list[Controller] = field(default_factory=list)

    def start(self, *words: str) -> Controller:
        log = self.path / f"output-{len(self.controllers)}.log"
        with log.open("w") as stream:
            process = subprocess.Popen(
                self.hosts.inside(sys.executable, "-m", "largeforge", *words), cwd=self.path, env=environment(),
                stdout=stream, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            )  # fmt: skip
        self.controllers.append(Controller(process, log))
        return self.controllers[-1]

    def train(self, inventory: str, *words: str) -> Controller:
        return self.start("+recipe=small", f"hosts={inventory}", *SIZE, *words)

    def end(self) -> None:
        """End all that is still running here."""
        for controller in self.controllers:
            if controller.process.poll() is None:
                controller.stop(signal.SIGKILL)

    def run_dir(self, controller: Controller) -> Path:
        (found,) = set(re.findall(r"runs/small/\S+-[0-9a-f]{8}(?:-\d+)?", controller.said))
        return self.path / found

    def manifest(self, run: Path) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((run / "train" / "manifest.json").read_text())
        return found

    def steps(self, run: Path) -> list[int]:
        events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
        return [event["step"] for event in events if event["stage"] == "train" and event["kind"] == "progress"]

    def forget(self, run: Path) -> None:
        """Let no other run reuse what a run has trained."""
        (self.path / "runs" / ".finished" / self.manifest(run)["fingerprint"]).unlink()


@contextmanager
def made_lab(hosts: Machines, path: Path, inventories: Mapping[str, Sequence[str]], *, steps: int) -> Iterator[Lab]:
    """Make the folder, and lend this checkout to the hosts; the inventory `unlike` names a Python without it."""
    for machine in hosts:
        lend_python(machine)
    recipe = SMALL.replace("  - /evaluation: loss\n", "").replace('gates:\n  vs_base.loss: "< -1"\n', "")
    for folder in ("recipes", "hosts"):
        (path / folder).mkdir()
    (path / "recipes/small.yaml").write_text(recipe.replace("max_steps: 60", f"max_steps: {steps}"))
    (path / "words.jsonl").write_text(rows(60))
    for name, members in inventories.items():
        python = "/usr/bin/python3" if name == "unlike" else PYTHON
        given = {member: {"address": member, "roles": ["train"], "python": python} for member in members}
        reached = {"ssh_config": str(hosts.ssh_config), "host_key_checking": "yes"}
        (path / f"hosts/{name}.yaml").write_text(json.dumps({"name": name, **reached, "hosts": given}))
    lab = Lab(path, hosts)
    yield lab
    lab.end()


def end_units(hosts: Machines) -> None:
    """End all trainings on the hosts that are on."""
    for machine in hosts:
        if machine.pid:
            machine.enter("systemctl", "stop", "largeforge-training-*")


def lend_python(machine: Machine) -> None:
    """Let a host run this checkout, wherever the environment has LargeForge from."""
    path = machine.disk / PYTHON[1:]
    path.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} "$@"\n')
    path.chmod(0o755)


def units(machine: Machine) -> list[str]:
    listed = machine.enter("systemctl", "list-units", "--plain", "--no-legend", "largeforge-training-*").stdout
    return [line.split()[0] for line in listed.splitlines()]


def seat(controller: Controller) -> tuple[str, str]:
    """Return the host that has a training, and the unit there."""
    found = re.search(r"runs on (h\d) as (\S+)", controller.said)
    assert found, controller.said
    return found[1], found[2]


def rate_of(controller: Controller) -> str:
    """Return the word that tells a training from the others."""
    return str(controller.process.args[-1])  # type: ignore[index]


def weights(manifest: dict[str, Any]) -> str:
    return str(manifest["files"]["model.safetensors"]["sha256"])
