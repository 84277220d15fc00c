"""Trainings on hosts that boot systemd, over ssh, with a Python that is lent to them."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from largeforge.deploy.shell import who
from tests.e2e.workspace import wait_for
from tests.hosts import faults
from tests.hosts.trainings import JOBS, SIZE, Controller, Lab, end_units, made_lab, rate_of, seat, units, weights

if TYPE_CHECKING:
    from tests.hosts.machines import Machines

STEPS = 150
INVENTORIES = {
    "one": ["h1"], "two": ["h1", "h2"], "left": ["h1"], "third": ["h3"], "unlike": ["h1"], "away": ["h9"],
}  # fmt: skip


@pytest.fixture(scope="module")
def made(booted: Machines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A working directory, and hosts that this checkout is lent to."""
    with made_lab(booted, tmp_path_factory.mktemp("lab"), INVENTORIES, steps=STEPS) as lab:
        yield lab


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
    end_units(hosts)


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
    jobs = set(re.findall(r"largeforge-training-([\w-]+)\.service", said))
    left = [job for job in jobs if (lab.hosts["h1"].disk / JOBS / job).exists()]
    assert jobs and not left, "what has come home is not kept there"


@pytest.mark.thorough
def test_two_train_at_once_and_the_third_waits_until_one_is_cancelled(lab: Lab) -> None:
    first, second, third = (lab.train("two", f"method.learning_rate={rate}") for rate in ("1e-4", "2e-4", "3e-4"))
    three = (first, second, third)
    wait_for(lambda: sum("runs on h" in one.said for one in three) == 2, timeout_s=300)
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
