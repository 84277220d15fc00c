"""Watching a run from elsewhere: the newest sitting, to its end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge import cli
from largeforge.commands import watch
from tests.fakes import tracked, trained

if TYPE_CHECKING:
    import pytest


def followed(path: Path, *later: list[dict[str, Any]], running: list[bool]) -> tuple[list[str], dict[str, Any]]:
    """Follow a file to which something is added with each wait; return the kinds that were shown, and the end."""
    shown: list[str] = []
    waiting, alive = iter(later), iter(running)

    def wait(_: float) -> None:
        tracked.write(path.parent, *next(waiting, []))

    end = watch.follow(
        path, lambda event: shown.append(event["kind"]), is_running=lambda: next(alive, False), wait=wait
    )
    return shown, end


def compact(folder: Path, *events: dict[str, Any]) -> Path:
    """Write events as a run does."""
    path = folder / "events.jsonl"
    path.write_text("".join(json.dumps(event, separators=(",", ":")) + "\n" for event in events))
    return path


BEGUN, STEP = trained.started("train"), trained.progress("train", 10, 20)
END = trained.event("run_finished", 30, "")


def test_a_run_is_followed_to_its_end(tmp_path: Path) -> None:
    path = compact(tmp_path, BEGUN)
    shown, end = followed(path, [], [STEP], [], [END], running=[True, True, True])
    assert shown == ["run_started", "progress", "run_finished"]
    assert end["kind"] == "run_finished"


def test_what_comes_after_the_end_is_still_shown(tmp_path: Path) -> None:
    path = compact(tmp_path, BEGUN, END)
    shown, end = followed(path, [trained.event("note", 31, "", text="a tracker")], running=[True, False])
    assert shown == ["run_started", "run_finished", "note"]
    assert end["kind"] == "run_finished"


def test_only_the_newest_sitting_is_shown(tmp_path: Path) -> None:
    failed = trained.event("run_failed", 5, "", exit_code=1, error="power cut")
    path = compact(tmp_path, BEGUN, STEP, failed, BEGUN, STEP, END)
    shown, _ = followed(path, running=[False])
    assert shown == ["run_started", "progress", "run_finished"]


def test_a_run_whose_process_is_gone_has_no_end(tmp_path: Path) -> None:
    shown, end = followed(compact(tmp_path, BEGUN, STEP), running=[True, False])
    assert shown == ["run_started", "progress"]
    assert end == {}


def test_the_exit_code_is_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tracked.run_dir(tmp_path / "runs")
    compact(folder, *tracked.whole())
    assert cli.main(["watch"]) == 0
    assert "held out at step 500" in capsys.readouterr().out
    compact(folder, BEGUN, trained.event("run_failed", 5, "", exit_code=3, error="a gate refused"))
    assert cli.main(["watch", str(folder)]) == 3
    capsys.readouterr()
    compact(folder, {**BEGUN, "command": "python -m largeforge +recipe=sft_qwen7b"}, STEP)
    assert cli.main(["watch"]) == 1
    assert "run its command again: python -m largeforge +recipe=sft_qwen7b" in capsys.readouterr().out


def test_where_there_is_no_run_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["watch"]) == 2
    assert "there is no run in" in capsys.readouterr().err
    assert cli.main(["watch", "latest:absent"]) == 2
