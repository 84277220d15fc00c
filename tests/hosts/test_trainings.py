"""Trainings on hosts that boot systemd, over ssh, with a Python that is lent to them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from largeforge.deploy.shell import who
from tests.e2e.test_training import SMALL, rows
from tests.e2e.workspace import environment, wait_for
from tests.hosts import faults
from tests.hosts.machines import ROOT, Machine, Machines

PYTHON = "/usr/local/bin/largeforge-python"
STEPS = 150
SIZE = ("hardware.cores=1", "hardware.memory_gib=2")
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
        wait_for(lambda: text in self.said or self.process.poll() is not None, timeout_s=120)
        assert text in self.said, self.said

    def reach(self, step: int) -> None:
        wait_for(lambda: self.step >= step or self.process.poll() is not None, timeout_s=120)
        assert self.step >= step, self.said

    def ended(self, code: int = 0) -> str:
        assert self.process.wait(120) == code, self.said
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


@pytest.fixture(scope="module")
def made(booted: Machines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A working directory, and hosts that this checkout is lent to."""
    path = tmp_path_factory.mktemp("lab")
    for machine in booted:
        lend_python(machine)
    recipe = SMALL.replace("  - /evaluation: loss\n", "").replace('gates:\n  vs_base.loss: "< -1"\n', "")
    for folder in ("recipes", "hosts"):
        (path / folder).mkdir()
    (path / "recipes/small.yaml").write_text(recipe.replace("max_steps: 60", f"max_steps: {STEPS}"))
    (path / "words.jsonl").write_text(rows(60))
    inventories = {
        "one": ["h1"],
        "two": ["h1", "h2"],
        "left": ["h1"],
        "third": ["h3"],
        "unlike": ["h1"],
        "away": ["h9"],
    }
    for name, members in inventories.items():
        python = "/usr/bin/python3" if name == "unlike" else PYTHON
        hosts = {member: {"address": member, "roles": ["train"], "python": python} for member in members}
        reached = {"ssh_config": str(booted.ssh_config), "host_key_checking": "yes"}
        (path / f"hosts/{name}.yaml").write_text(json.dumps({"name": name, **reached, "hosts": hosts}))
    lab = Lab(path, booted)
    yield lab
    lab.end()


@dataclass
class Trained:
    """One training on a host, and the same on this machine."""

    there: Controller
    straight: dict[str, Any]
    """Manifest of the one on this machine."""


@pytest.fixture(scope="module")
def trained(made: Lab) -> Trained:
    """Both, side by side; what comes before the training is reused by the other tests."""
    here, there = made.start("+recipe=small", *SIZE, "runs.root=here"), made.train("one")
    here.ended()
    there.ended()
    (found,) = made.path.glob("here/small/*/train/manifest.json")
    made.forget(made.run_dir(there))
    return Trained(there, json.loads(found.read_text()))


@pytest.fixture
def lab(made: Lab, trained: Trained, hosts: Machines) -> Iterator[Lab]:
    """The same; nothing trains on the hosts before and after a test."""
    yield made
    made.end()
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


@pytest.mark.thorough
def test_a_training_on_a_host_makes_what_one_here_makes(lab: Lab, trained: Trained) -> None:
    said = trained.there.said
    assert "runs on h1 as largeforge-training-small-train-" in said
    assert "came home from h1 and verify" in said
    run = lab.run_dir(trained.there)
    found = lab.manifest(run)
    assert weights(found) == weights(trained.straight)
    assert found["files"].keys() == trained.straight["files"].keys()
    assert lab.steps(run) == list(range(1, STEPS + 1))
    card = (run / "train/out/README.md").read_text()
    assert "words.jsonl" in card and "53 train, 7 held out" in card
    assert "/var/lib/largeforge" not in card + (run / "events.jsonl").read_text()
    assert not list((lab.hosts["h1"].disk / JOBS).iterdir()), "what has come home is not kept there"


@pytest.mark.thorough
def test_two_train_at_once_and_the_third_waits_until_one_is_cancelled(lab: Lab) -> None:
    first, second, third = (lab.train("two", f"method.learning_rate={rate}") for rate in ("1e-4", "2e-4", "3e-4"))
    three = (first, second, third)
    wait_for(lambda: sum("runs on h" in one.said for one in three) == 2, timeout_s=100)
    (last,) = (one for one in three if "runs on h" not in one.said)
    last.wait_for("waiting for a host: ")
    shown = lab.start("queue", "two").ended()
    ran = [one for one in three if one is not last]
    assert sorted(re.search(r"runs on (h\d)", one.said)[1] for one in ran) == ["h1", "h2"]  # type: ignore[index]
    for text in (last.said, shown):
        assert who() in text and "small, train" in text
    assert "place 1 in line" in last.said
    assert re.search(r"h1 +in line, 1 ", shown) and re.search(r"h2 +processors", shown)
    refused = lab.train("two", "method.learning_rate=4e-4", "hosts.queue.when_busy=refuse").ended(1)
    assert "all hosts are taken (hosts.queue.when_busy=refuse): waiting for a host: h1: place " in refused
    ran[0].reach(20)
    run = os.path.relpath(lab.run_dir(ran[0]), lab.path)
    cancelled = lab.start("cancel", run).ended()
    assert re.search(r"train  ended on h\d, checkpoint-\d+ is kept there", cancelled)
    assert "python -m largeforge cancel" in ran[0].ended(1)
    last.wait_for("runs on h")
    host, unit = seat(last)
    lab.hosts[host].enter("systemctl", "kill", "--signal=KILL", unit)
    assert f"its unit on {host} was killed (signal KILL)" in last.ended(1)
    again = lab.train("two", rate_of(last))
    again.wait_for("runs on h")
    again.stop(signal.SIGINT)
    assert "Follow it: python -m largeforge attach runs/small/" in again.said
    host, unit = seat(again)
    assert unit in units(lab.hosts[host]), "Ctrl-C lets go, and ends nothing"


@pytest.mark.thorough
def test_a_controller_that_was_killed_is_replaced_by_attach_over_a_link_that_breaks(lab: Lab, trained: Trained) -> None:
    host = lab.hosts["h1"]
    controller = lab.train("left", "hosts.queue.patience_s=120")
    controller.reach(10)
    controller.stop(signal.SIGKILL)
    run = lab.run_dir(controller)
    (unit,) = units(host)
    follower = lab.start("attach", os.path.relpath(run, lab.path))
    follower.wait_for("h1 has this stage: following it")
    faults.link(host, "down")
    time.sleep(3)
    host.enter("pkill", "-u", "deploy", "sshd")
    faults.link(host, "up")
    follower.ended()
    assert weights(lab.manifest(run)) == weights(trained.straight)
    assert lab.steps(run) == list(range(1, STEPS + 1)), "each step is told once, whoever listened"
    assert units(host) == [] and unit.startswith("largeforge-training-small-train-")
    lab.forget(run)


@pytest.mark.thorough
def test_a_host_that_lost_power_continues_from_its_checkpoint(lab: Lab, trained: Trained) -> None:
    host = lab.hosts["h3"]
    controller = lab.train("third")
    controller.reach(25)
    host.power_off(hard=True)
    controller.wait_for("the connection to h3 is lost")
    host.power_on()
    said = controller.ended(1)
    assert "h3 was restarted while the stage ran there; checkpoint-" in said
    assert "is kept on h3: the same command continues from it" in said
    again = lab.train("third")
    assert re.search(r"continuing from checkpoint-[2-9]\d", again.ended())
    assert weights(lab.manifest(lab.run_dir(again))) == weights(trained.straight)


@pytest.mark.thorough
def test_hosts_that_cannot_take_a_training_say_why(lab: Lab) -> None:
    rate = "method.learning_rate=5e-4"
    unlike, away = lab.train("unlike", rate), lab.train("away", rate)
    small = lab.train("one", "hardware.memory_gib=4000", rate)
    assert "h1: /usr/bin/python3 has other packages: largeforge is not there, and " in unlike.ended(1)
    assert "no host can take it: h9: " in away.ended(1)
    assert "GiB of memory, and 4000 are planned with" in small.ended(1)
    assert units(lab.hosts["h1"]) == []
