"""One training over several hosts that boot systemd and share no storage."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from largeforge.deploy.shell import who
from tests.e2e.test_training import rows
from tests.e2e.workspace import wait_for
from tests.hosts.trainings import JOBS, SIZE, Controller, Lab, end_units, made_lab, units

if TYPE_CHECKING:
    from tests.hosts.machines import Machines

STEPS = 60
TOGETHER = ("launcher=multi_node", "launcher.lost_after_s=8", "method.per_device_train_batch_size=4")
PAIR = ("h1", "h2")
EVEN = ("method.learning_rate=3e-3", "dataset.heldout_fraction=0")
"""With 64 rows: each batch is divided evenly, so that two processes learn what one does."""


@pytest.fixture(scope="module")
def made(booted: Machines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A working directory, and hosts that this checkout is lent to."""
    inventories = {"pair": PAIR, "turned": ("h2", "h1"), "one": ("h1",), "missing": ("h1", "h9")}
    with made_lab(booted, tmp_path_factory.mktemp("several"), inventories, steps=STEPS) as lab:
        (lab.path / "words.jsonl").write_text(rows(64))
        yield lab


@pytest.fixture
def lab(made: Lab, hosts: Machines) -> Iterator[Lab]:
    """The same; nothing trains on the hosts after a test."""
    yield made
    made.end()
    end_units(hosts)


def train(lab: Lab, *words: str, inventory: str = "pair") -> Controller:
    return lab.train(inventory, *TOGETHER, *words)


def running(lab: Lab) -> list[str]:
    """Return the hosts that have a unit of a training."""
    return [name for name in PAIR if units(lab.hosts[name])]


def losses(run: Path) -> dict[int, float]:
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return {e["step"]: e["loss"] for e in events if e["stage"] == "train" and e["kind"] == "progress"}


def relative(lab: Lab, controller: Controller) -> str:
    return os.path.relpath(lab.run_dir(controller), lab.path)


def checkpoint(lab: Lab, host: str, step: int) -> bool:
    sealed = f"*/stage/work/checkpoints/checkpoint-{step}/largeforge-checkpoint.json"
    return bool(list((lab.hosts[host].disk / JOBS).glob(sealed)))


def test_two_hosts_train_one_model_and_both_are_taken(lab: Lab) -> None:
    controller = train(lab)
    controller.reach(5)
    assert running(lab) == ["h1", "h2"]
    shown = lab.start("queue", "pair").ended()
    assert len(re.findall(rf"h[12] +processors +{re.escape(who())} +small, train", shown)) == 2, shown
    said = controller.ended()
    assert re.search(r"training on 2 hosts: h1 \(\S+\), h2 \(\S+\)", said), said
    assert re.search(r"runs on h1 as .*\n(.*\n)*.*runs on h2 as largeforge-training-small-train-", said)
    assert "came home from h1 and verify" in said
    run = lab.run_dir(controller)
    assert "model.safetensors" in lab.manifest(run)["files"]
    assert list(losses(run)) == list(range(1, STEPS + 1))
    for name in PAIR:
        assert not list((lab.hosts[name].disk / JOBS).iterdir()), "what has come home is not kept there"


@pytest.fixture(scope="module")
def alone(made: Lab) -> dict[int, float]:
    """The losses of one process here with the whole batch."""
    controller = made.start("+recipe=small", *SIZE, *EVEN, "runs.root=here")
    controller.ended()
    (run,) = made.path.glob("here/small/*")
    return losses(run)


@pytest.mark.thorough
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2", "deepspeed"])
def test_a_host_whose_unit_is_killed_is_named_and_the_rest_goes_on_from_the_checkpoint(
    lab: Lab, alone: dict[int, float], strategy: str
) -> None:
    words = (f"launcher.strategy.name={strategy}", *EVEN)
    controller = train(lab, *words)
    wait_for(lambda: checkpoint(lab, "h1", 10) or controller.process.poll() is not None, timeout_s=300)
    assert not checkpoint(lab, "h2", 10), "a checkpoint is whole on the first host, and there alone"
    (unit,) = units(lab.hosts["h2"])
    lab.hosts["h2"].enter("systemctl", "kill", "--signal=KILL", unit)
    said = controller.ended(1)
    assert "its unit on h2 was killed (signal KILL); the other hosts ended with it; checkpoint-" in said
    assert "is kept on h1: the same command continues from it" in said
    assert running(lab) == []
    again = train(lab, *words)
    assert re.search(r"continuing from checkpoint-[1-9]0", again.ended())
    found = losses(lab.run_dir(again))
    assert found.keys() == alone.keys()
    assert max(abs(found[step] - loss) for step, loss in alone.items()) < 1e-4


@pytest.mark.thorough
def test_the_controller_may_go_and_attach_follows_both_to_the_end(lab: Lab) -> None:
    controller = train(lab, "method.max_steps=150", "method.learning_rate=2e-3")
    controller.reach(5)
    controller.stop(signal.SIGKILL)
    assert running(lab) == ["h1", "h2"]
    follower = lab.start("attach", relative(lab, controller))
    follower.wait_for("h1, h2 have this stage: following it")
    follower.ended()
    run = lab.run_dir(controller)
    assert list(losses(run)) == list(range(1, 151))
    assert "model.safetensors" in lab.manifest(run)["files"]


@pytest.mark.thorough
def test_cancel_ends_both_and_the_controller_that_left_finds_the_checkpoint(lab: Lab) -> None:
    words = ("method.max_steps=400", "method.learning_rate=3e-3")
    controller = train(lab, *words)
    controller.reach(5)
    controller.stop(signal.SIGINT)
    assert "goes on at h1, h2 without us" in controller.said
    said = lab.start("cancel", relative(lab, controller)).ended()
    assert re.search(r"train  ended on h1, checkpoint-\d+ is kept there", said) and "train  ended on h2" in said
    assert running(lab) == []
    again = train(lab, *words)
    again.wait_for("continuing from checkpoint-")
    again.stop(signal.SIGKILL)


@pytest.mark.thorough
def test_a_host_without_power_ends_the_others_though_nobody_watches(lab: Lab) -> None:
    words = ("method.max_steps=2000", "method.learning_rate=4e-3")
    controller = train(lab, *words)
    controller.reach(5)
    controller.stop(signal.SIGKILL)
    lab.hosts["h2"].power_off(hard=True)
    wait_for(lambda: not units(lab.hosts["h1"]), timeout_s=90)
    said = lab.start("attach", relative(lab, controller)).ended(1)
    assert "h2" in said and "train together, and not all of them can" in said
    lab.hosts["h2"].power_on()


@pytest.mark.thorough
def test_two_who_want_the_same_hosts_in_another_order_take_turns(lab: Lab) -> None:
    first = train(lab, "method.learning_rate=5e-3", "method.max_steps=100")
    second = train(lab, "method.learning_rate=6e-3", inventory="turned")
    third = lab.train("one", "method.learning_rate=7e-3")
    for one in (first, second, third):
        one.ended()
    assert "waiting for a host: " in first.said + second.said
    assert "came home from h2 and verify" in second.said, "the first host of an inventory has the artifact"


@pytest.mark.thorough
def test_hosts_that_cannot_all_take_it_are_named(lab: Lab) -> None:
    said = train(lab, "method.learning_rate=8e-3", inventory="missing").ended(1)
    assert "h1, h9 train together, and not all of them can: h9: " in said
    assert running(lab) == []


@pytest.mark.thorough
def test_the_trials_of_a_sweep_are_spread_over_the_hosts(lab: Lab) -> None:
    rates = "method.learning_rate=1e-3,2e-3,3e-3,4e-3"
    controller = lab.train("pair", "--multirun", "runs.root=swept", rates)
    wait_for(lambda: running(lab) == ["h1", "h2"] or controller.process.poll() is not None, timeout_s=300)
    assert running(lab) == ["h1", "h2"], controller.said
    assert controller.process.wait(900) == 0, controller.said
    told = "".join(path.read_text() for path in (lab.path / "swept").rglob("events.jsonl"))
    ran = set(re.findall(r"runs on (h[12]) as (largeforge-training-small-train-\w+)", told))
    assert len(ran) == 4 and {host for host, _ in ran} == {"h1", "h2"}
    assert len(list((lab.path / "swept").rglob("train/out/model.safetensors"))) == 4
