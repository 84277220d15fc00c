"""Trials side by side: with processes that write a trial's events, but train nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from largeforge import reaper
from largeforge.errors import Interrupted
from largeforge.signals import Signals
from largeforge.sweep import scheduler
from largeforge.sweep.folder import Folder, Trial
from largeforge.sweep.prepare import Planned
from largeforge.sweep.process import Running
from largeforge.sweep.scheduler import Scheduler
from largeforge.sweep.slots import Slot
from largeforge.sweep.source import Listed

SCRIPT = """\
import json, pathlib, sys, time
path, number, ends, wait = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
def tell(kind, stage="", **fields):
    with open(path, "a") as stream:
        stream.write(json.dumps({"time": time.time(), "stage": stage, "kind": kind, **fields}) + "\\n")
tell("run_started", run_dir=f"runs/{number}")
tell("finished", "init", metrics={}, seconds=0.1)
while wait and not pathlib.Path(wait).exists():
    time.sleep(0.02)
if ends:
    tell("run_failed", error=f"trial {number} broke", exit_code=ends)
else:
    tell("finished", "evaluate", metrics={"loss": number / 10}, seconds=0.1)
sys.exit(ends)
"""


@dataclass
class Recorder:
    """A view that remembers, and opens the gates of waiting trials when enough have started."""

    gate: Path
    open_at: int = 1
    told: list[str] = field(default_factory=list)
    at_once: int = 0
    running: int = 0

    def started(self, running: Running) -> None:
        self.told.append(f"start {running.trial.number}")
        self.running += 1
        self.at_once = max(self.at_once, self.running)
        if self.running >= self.open_at:
            self.gate.touch()

    def progressed(self, running: Running) -> None:
        pass

    def ended(self, trial: Trial) -> None:
        self.told.append(f"{trial.state} {trial.number}")
        self.running -= trial.state != "invalid"


@pytest.fixture
def codes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[int, int]:
    """Exit codes of trials by number; those not in it end well. All wait for the file `gate`."""
    found: dict[int, int] = {}

    def start(trial: Trial, slot: Slot, folder: Path, pending: dict[str, str]) -> Running:
        path = folder / "events.jsonl"
        path.write_text("")
        words = [str(path), str(trial.number), str(found.get(trial.number, 0)), str(tmp_path / "gate")]
        argv = reaper.command([sys.executable, "-c", SCRIPT, *words], grace_s=1)
        popen = subprocess.Popen(argv, start_new_session=True)
        return Running(trial, slot, popen, folder / "log.txt", path.open(newline="\n"), time.time(), dict(pending))

    monkeypatch.setattr(scheduler, "start", start)
    return found


def planned(number: int, problem: str = "", heavy: dict[str, str] | None = None) -> Planned:
    return Planned(number, {"a": str(number)}, (f"a={number}",), problem=problem, heavy=heavy or {})


def run(folder: Path, trials: list[Planned], view: Any, num_slots: int = 2) -> dict[int, Trial]:
    known: dict[int, Trial] = {}
    with Signals() as signals:
        Scheduler(Folder(folder), Listed(trials), [Slot(1)] * num_slots, known, view, lambda: None).run(signals)
    return known


def test_a_trial_that_fails_does_not_stop_the_others(tmp_path: Path, codes: dict[int, int]) -> None:
    codes.update({1: 1, 2: 3, 4: 137})
    view = Recorder(tmp_path / "gate", open_at=2)
    known = run(tmp_path, [planned(n) for n in range(5)] + [planned(5, problem="wrong value")], view)
    assert {n: trial.state for n, trial in known.items()} == {
        0: "done", 1: "failed", 2: "refused", 3: "done", 4: "failed", 5: "invalid",
    }  # fmt: skip
    assert known[1].reason == "trial 1 broke"
    assert known[5].reason == "wrong value"
    assert known[3].metrics == {"loss": 0.3}
    assert known[3].run_dir == str(Path("runs/3").absolute())
    assert view.at_once == 2
    assert Folder(tmp_path).trials() == [known[n] for n in range(6)]


def test_a_trial_waits_while_another_makes_a_stage_that_both_need(tmp_path: Path, codes: dict[int, int]) -> None:
    shared = {"train": "base"}
    trials = [planned(0, heavy=shared), planned(1, heavy=shared), planned(2, heavy={"train": "other"})]
    view = Recorder(tmp_path / "gate", open_at=2)
    run(tmp_path, trials, view)
    assert view.told[:2] == ["start 0", "start 2"]
    assert view.told.index("start 1") > view.told.index("done 0")


def test_a_shared_stage_that_is_finished_holds_nobody_up(tmp_path: Path, codes: dict[int, int]) -> None:
    shared = {"init": "same"}  # which each trial finishes before it waits for the gate
    view = Recorder(tmp_path / "gate", open_at=2)
    known = run(tmp_path, [planned(0, heavy=shared), planned(1, heavy=shared)], view)
    assert view.told[:2] == ["start 0", "start 1"]
    assert {trial.state for trial in known.values()} == {"done"}


def test_a_signal_stops_every_trial_and_records_it(tmp_path: Path, codes: dict[int, int]) -> None:
    view = Recorder(tmp_path / "gate", open_at=99)

    def interrupt() -> None:
        while view.running < 2:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(Interrupted, match="run the same command again"):
        run(tmp_path, [planned(n) for n in range(4)], view)
    states = {trial.number: trial.state for trial in Folder(tmp_path).trials()}
    assert set(states) == {0, 1}
    assert not reaper.descendants(os.getpid())


def test_a_line_that_is_half_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    line = json.dumps({"time": 1.0, "stage": "train", "kind": "finished", "metrics": {"loss": 0.5}}) + "\n"
    path.write_text(line[:20])
    with path.open(newline="\n") as stream, subprocess.Popen([sys.executable, "-c", ""]) as popen:
        running = Running(Trial(0, {}, ()), Slot(1), popen, path, stream, 0.0, {"train": "x"})
        running.read()
        assert running.pending
        with path.open("a") as more:
            more.write(line[20:])
        running.read()
    assert running.trial.metrics == {"train.loss": 0.5}
    assert not running.pending
