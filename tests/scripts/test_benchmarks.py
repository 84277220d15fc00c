"""The arithmetic of the benchmarks, and that a benchmark notices a command that fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts.benchmarks import _peers, quickstart, startup
from scripts.benchmarks.startup import Command, Timing
from scripts.tables import columns


def write_run(folder: Path) -> Path:
    """A run of 100 s: one stage reused, 10..60 s training with 30 s in the loop, 50..90 s serving."""
    events: list[dict[str, Any]] = [
        {"time": 900.0, "stage": "", "kind": "run_started"},
        {"time": 901.0, "stage": "b.train", "kind": "progress"},
        {"time": 1000.0, "stage": "", "kind": "run_started"},
        {"time": 1000.0, "stage": "a.prepare", "kind": "finished", "reused": "x/y"},
        {"time": 1030.0, "stage": "b.train", "kind": "progress"},
        {"time": 1055.0, "stage": "b.train", "kind": "progress"},
        {"time": 1060.0, "stage": "b.train", "kind": "finished", "reused": ""},
        {"time": 1054.0, "stage": "serve", "kind": "answer", "latency_ms": 2000.0},
        {"time": 1080.0, "stage": "serve", "kind": "answer", "latency_ms": 3000.0},
        {"time": 1100.0, "stage": "", "kind": "run_finished"},
    ]
    (folder / "events.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in events))
    for name, kind, started, seconds in (
        ("a.prepare", "prepare", 5.0, 1.0),
        ("b.train", "train", 1010.0, 50.0),
        ("serve", "serve", 1050.0, 40.0),
    ):
        metrics = {"train_seconds": 30.0} if kind == "train" else {}
        manifest = {"stage": name, "kind": kind, "started": started, "seconds": seconds, "metrics": metrics}
        (folder / name).mkdir()
        (folder / name / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_overhead_is_the_time_in_which_nothing_useful_happens(tmp_path: Path) -> None:
    analysis = quickstart.analyse(write_run(tmp_path))
    assert analysis.seconds == 100.0
    assert analysis.reused == ("a.prepare",)
    assert [(stage.name, stage.start, stage.useful_seconds) for stage in analysis.stages] == [
        ("b.train", 10.0, 30.0),
        ("serve", 50.0, 5.0),
    ]
    assert analysis.overhead_seconds == pytest.approx(100 - 30 - 3)  # one answer fell into the training
    assert "67.0 s (67%) are overhead" in quickstart.table(analysis)


def test_the_time_line_shows_use_and_overhead(tmp_path: Path) -> None:
    stage = quickstart.analyse(write_run(tmp_path)).stages[0]
    assert quickstart.time_line(stage, 100.0) == "····░░░░░░████████████░░················"


@pytest.mark.parametrize(
    ("intervals", "seconds"), [([], 0), ([(0, 1), (2, 4)], 3), ([(0, 5), (1, 2), (4, 6)], 6), ([(3, 4), (0, 1)], 2)]
)
def test_overlapping_intervals_count_once(intervals: list[tuple[float, float]], seconds: float) -> None:
    assert quickstart.covered(intervals) == seconds


def test_the_ratio_is_to_the_first_command() -> None:
    lines = startup.table([Timing("bare", [0.01, 0.02, 0.03]), Timing("plan", [0.4, 0.2, 0.6])]).splitlines()
    assert lines[1].split() == ["bare", "20", "10", "30", "1.0"]
    assert lines[2].split() == ["plan", "400", "200", "600", "20.0"]


def test_commands_take_turns_and_the_first_round_does_not_count(tmp_path: Path) -> None:
    write = "import sys; open('order', 'a').write(sys.argv[1])"
    commands = (Command("a", ("-c", write, "a")), Command("b", ("-c", write, "b")))
    timings = startup.measure(commands, rounds=2, folder=tmp_path)
    assert (tmp_path / "order").read_text() == "ababab"
    assert [len(timing.seconds) for timing in timings] == [2, 2]


def test_a_command_that_fails_is_no_measurement(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="exit code 3, not 0"):
        startup.measure((Command("bad", ("-c", "raise SystemExit(3)")),), rounds=1, folder=tmp_path)


def test_a_command_that_does_not_find_the_mistake_is_no_measurement(tmp_path: Path) -> None:
    quiet = Command("quiet", ("-c", "print('all is well')"), says="learning_rte")
    with pytest.raises(RuntimeError, match="does not speak of learning_rte"):
        startup.measure((quiet,), rounds=1, folder=tmp_path)


def test_a_peer_has_an_environment_of_its_own_that_is_made_once(tmp_path: Path) -> None:
    peer = _peers.Peer("oumi", (), ("python", "-c", "pass"), ("python", "-c", "1 / 0"), "ZeroDivisionError")
    programs = _peers.install(peer, tmp_path)
    made = (programs / "python").lstat().st_mtime_ns
    assert _peers.install(peer, tmp_path) == programs
    assert (programs / "python").lstat().st_mtime_ns == made
    commands = startup._commands(peer, tmp_path, tmp_path)
    assert [len(timing.seconds) for timing in startup.measure(commands, rounds=1, folder=tmp_path)] == [1, 1]
    assert (tmp_path / "oumi.yaml").read_text() == peer.config


def test_a_peer_that_cannot_be_installed_says_why_and_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    peer = _peers.Peer("oumi", (str(tmp_path / "no.whl"),), ("oumi",), ("oumi",), "")
    assert startup._commands(peer, tmp_path, tmp_path) == []
    assert "oumi cannot be installed" in capsys.readouterr().err


def test_columns_align() -> None:
    assert columns([("a", "bb"), ("ccc", "d")]) == "a    bb\nccc   d"
