"""`reproduce=…` as a user calls it; that the same bytes come of it is shown end to end (`tests/e2e`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from largeforge.cli import main
from tests.fakes.recorded import Desk


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    desk = Desk(tmp_path)
    desk.record()
    return desk


@pytest.mark.parametrize("words", [["reproduce=latest:small", "mode=plan"], ["reproduce", "latest:small", "mode=plan"]])
def test_a_plan_shows_what_matches_and_writes_nothing(
    desk: Desk, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(desk.path.rglob("*"))
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "Everything matches the lock." in out
    assert "dataset.path" in out
    assert "register" not in out
    assert sorted(desk.path.rglob("*")) == before


def test_other_data_are_shown_and_refused(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.write_rows(9)
    assert main(["mode=plan", "reproduce=latest:small"]) == 2
    shown = capsys.readouterr()
    assert "differs" in shown.out
    assert "reproduce.allow=[datasets]" in shown.err
    assert main(["reproduce=latest:small", "reproduce.allow=[datasets]", "mode=plan"]) == 0
    assert "accepted" in capsys.readouterr().out


def test_runs_in_another_folder_are_found_there(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    (desk.path / "runs").rename(desk.path / "kept")
    assert main(["reproduce=latest:small", "mode=plan"]) == 2
    assert "there is no run of it in runs" in capsys.readouterr().err
    assert main(["reproduce=latest:small", "mode=plan", "--runs=kept"]) == 0
