"""The time that a training has had, in all its attempts."""

from __future__ import annotations

import json
from pathlib import Path

from largeforge.training.clock import EVERY_S, Clock


class Time:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_time_and_furthest_step_count_over_attempts(tmp_path: Path) -> None:
    path, time = tmp_path / "clock.json", Time()
    first = Clock(path, time)
    time.now += 50
    first.note(30)
    time.now += 7.5
    first.note(31, at_once=True)
    time.now += 5  # killed
    second = Clock(path, time)
    assert (second.earlier_s, second.earlier_step) == (57.5, 31)
    time.now += 2.5
    assert second.seconds() == 60
    second.note(20, at_once=True)
    assert Clock(path, time).earlier_step == 31


def test_it_is_not_written_at_every_step(tmp_path: Path) -> None:
    path, time = tmp_path / "clock.json", Time()
    clock = Clock(path, time)
    time.now += EVERY_S / 2
    clock.note(1)
    assert not path.exists()
    time.now += EVERY_S / 2
    clock.note(2)
    assert json.loads(path.read_text()) == {"seconds": EVERY_S, "step": 2}


def test_a_file_that_cannot_be_read_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "clock.json").write_text("{")
    assert Clock(tmp_path / "clock.json").earlier_s == 0
