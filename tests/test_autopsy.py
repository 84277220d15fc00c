"""Why the process of a stage died without a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge import autopsy

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

AGENT = """\
E1121 torch/distributed/elastic/multiprocessing/api.py:874] failed (exitcode: -9) local_rank: 1 (pid: 4242) of binary
largeforge.stages FAILED
Root Cause (first observed failure):
[0]:
  time      : 2026-11-21_12:00:00
  host      : node-a
  rank      : 1 (local_rank: 1)
  exitcode  : -9 (pid: 4242)
  traceback : Signal 9 (SIGKILL) received by PID 4242
"""


def test_the_signal_that_killed_a_process_is_named(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("a line\n")
    death = autopsy.examine(log, 137)
    assert death.killer == "SIGKILL"
    assert death.text == f"its process was killed by SIGKILL. The end of {log}:\n  a line"
    assert autopsy.examine(log, 1).killer == ""
    assert "ended with exit code 1" in autopsy.examine(log, 1).text


def test_a_worker_that_was_killed_is_found_in_what_the_launcher_says(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text(AGENT)
    death = autopsy.examine(log, 1)
    assert death.killer == "SIGKILL"
    assert death.text.startswith("one of its worker processes (rank 1) on node-a was killed by SIGKILL (often")
    assert death.text.endswith(f": {log}") and "\n" not in death.text


def test_a_worker_that_was_killed_is_known_though_the_launcher_said_no_more(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text(AGENT.splitlines()[0])
    assert autopsy.examine(log, 1).text.startswith("one of its worker processes was killed by SIGKILL")


def test_a_worker_that_failed_was_not_killed(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text(AGENT.replace("exitcode  : -9", "exitcode  : 1"))
    assert autopsy.examine(log, 1).killer == ""


def test_what_an_earlier_attempt_wrote_does_not_count(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text(AGENT)
    size = log.stat().st_size
    with log.open("a") as stream:
        stream.write("another end\n")
    death = autopsy.examine(log, 1, since=size)
    assert death.killer == ""
    assert death.text.endswith(":\n  another end")


def test_a_process_that_left_no_log_has_none(tmp_path: Path) -> None:
    assert autopsy.examine(tmp_path / "log.txt", 1).text == "its process ended with exit code 1; it left no log."


def test_the_kernel_counts_what_it_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autopsy, "VMSTAT", tmp_path / "vmstat")
    assert autopsy.memory_kills() == 0
    (tmp_path / "vmstat").write_text("nr_free_pages 1\noom_kill 3\npswpin 0\n")
    assert autopsy.memory_kills() == 3


def test_a_worker_that_lost_a_killed_peer_is_not_what_is_told() -> None:
    report = """
Failures:
[1]:
  time      : 2026-11-21_12:00:01
  host      : node-a
  rank      : 1 (local_rank: 1)
  exitcode  : -9 (pid: 4243)
[2]:
  time      : 2026-11-21_12:00:02
  host      : node-a
  rank      : 2 (local_rank: 2)
  exitcode  : -15 (pid: 4244)
Root Cause (first observed failure):
[0]:
  time      : 2026-11-21_12:00:00
  host      : node-a
  rank      : 0 (local_rank: 0)
  exitcode  : 1 (pid: 4242)
"""
    found = autopsy.killed_worker(report)
    assert found is not None
    assert (found.killer, found.rank, found.host) == ("SIGKILL", "1", "node-a")
    assert autopsy.killed_worker(report.replace(": -9", ": -15")) is None
