"""Trainings on hosts that boot systemd, over ssh, with a Python that is lent to them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_training import SMALL, rows
from tests.e2e.workspace import environment, processes, wait_for
from tests.hosts import faults
from tests.hosts.machines import ROOT, Machine, Machines

PYTHON = "/usr/local/bin/largeforge-python"
STEPS = 30
SIZE = ("hardware.cores=1", "hardware.memory_gib=2")


@dataclass
class Lab:
    """A person's working directory with an inventory of test hosts."""

    path: Path
    hosts: Machines

    def command(self, *words: str) -> list[str]:
        return self.hosts.inside(sys.executable, "-m", "largeforge", *words)

    def train(self, *words: str) -> list[str]:
        return self.command("+recipe=small", "hosts=lab", *SIZE, *words)

    def start(self, command: list[str], log: str = "output.log") -> subprocess.Popen[str]:
        with (self.path / log).open("w") as stream:
            return subprocess.Popen(
                command, cwd=self.path, env=environment(), stdout=stream, stderr=subprocess.STDOUT, text=True,
                start_new_session=True,
            )  # fmt: skip

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=self.path, env=environment(), capture_output=True, text=True, timeout=300)

    def said(self, log: str = "output.log") -> str:
        return (self.path / log).read_text()

    def await_text(self, text: str, process: subprocess.Popen[str], log: str = "output.log") -> None:
        wait_for(lambda: text in self.said(log) or process.poll() is not None)
        assert text in self.said(log), self.said(log)

    @property
    def run_dir(self) -> Path:
        return max((self.path / "runs" / "small").iterdir())

    def manifest(self, stage: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.run_dir / stage / "manifest.json").read_text())
        return found

    def steps(self) -> list[int]:
        events = [json.loads(line) for line in (self.run_dir / "events.jsonl").read_text().splitlines()]
        return [event["step"] for event in events if event["stage"] == "train" and event["kind"] == "progress"]


@pytest.fixture
def lab(hosts: Machines, tmp_path: Path) -> Iterator[Lab]:
    for machine in hosts:
        lend_python(machine)
    made = Lab(tmp_path, hosts)
    write(made, "h1")
    yield made
    for machine in hosts:
        if machine.pid:
            machine.enter("systemctl", "stop", "largeforge-training-*")


def lend_python(machine: Machine) -> None:
    """Let a host run this checkout, wherever the environment has LargeForge from."""
    path = machine.disk / PYTHON[1:]
    path.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} "$@"\n')
    path.chmod(0o755)


def write(lab: Lab, *names: str, steps: int = STEPS) -> None:
    """Write recipe, data and an inventory of some hosts."""
    (lab.path / "recipes").mkdir(exist_ok=True)
    (lab.path / "hosts").mkdir(exist_ok=True)
    recipe = SMALL.replace("  - /evaluation: loss\n", "").replace('gates:\n  vs_base.loss: "< -1"\n', "")
    (lab.path / "recipes/small.yaml").write_text(recipe.replace("max_steps: 60", f"max_steps: {steps}"))
    (lab.path / "words.jsonl").write_text(rows(60))
    machines = "".join(f"  {name}: {{address: {name}, roles: [train]}}\n" for name in names)
    text = f"name: lab\nssh_config: {lab.hosts.ssh_config}\nhost_key_checking: 'yes'\ncommon: {{python: {PYTHON}}}\nhosts:\n{machines}"
    (lab.path / "hosts/lab.yaml").write_text(text)


def test_a_training_on_a_host_brings_home_what_one_here_makes(lab: Lab) -> None:
    ended = lab.run(lab.train())
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "runs on h1 as largeforge-training-small-train-" in ended.stdout
    there, steps = lab.manifest("train"), lab.steps()
    assert steps == list(range(1, STEPS + 1))
    here = lab.run(lab.command("+recipe=small", *SIZE, "runs.root=here"))
    assert here.returncode == 0, here.stdout + here.stderr
