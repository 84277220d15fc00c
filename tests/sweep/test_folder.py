"""What is recorded of a sweep."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from largeforge.errors import StageError
from largeforge.sweep.folder import About, Folder, Trial, find
from largeforge.sweep.space import Space

TRIAL = Trial(3, {"a": "1"}, ("+recipe=x", "a=1"), state="done", metrics={"loss": 0.5}, run_dir="/runs/x")
ABOUT = About(
    "x", ("+recipe=x", "a=1,2"), (Space("a", values=("1", "2")),), "loss", "minimize", 2, "abc", share=("c=1",)
)


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.describe(ABOUT)
    folder.write(TRIAL)
    assert folder.about() == ABOUT
    assert folder.trials() == [TRIAL]


def test_a_damaged_record_counts_as_never_run(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write(TRIAL)
    folder.write(replace(TRIAL, number=4))
    (folder.trial_dir(4) / "trial.json").write_text('{"number": 4')
    assert folder.trials() == [TRIAL]


def test_a_trial_that_was_cut_off_is_shown_as_interrupted(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write(replace(TRIAL, state="running"))
    with folder.held():
        assert [trial.state for trial in folder.shown_trials()] == ["running"]
    assert [trial.state for trial in folder.shown_trials()] == ["interrupted"]


def test_one_process_at_a_time_runs_a_sweep(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with folder.held(), pytest.raises(StageError, match="running already"), Folder(tmp_path).held():
        pass


def test_a_sweep_is_found_by_the_start_of_its_name_or_as_the_newest(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no sweep below"):
        find("", tmp_path)
    for name in ("aa11", "aa22", "bb33"):
        Folder(tmp_path / "sweeps" / "x" / name).describe(ABOUT)
    assert find("bb", tmp_path).path.name == "bb33"
    assert find(str(tmp_path / "sweeps" / "x" / "aa11"), tmp_path).path.name == "aa11"
    with pytest.raises(StageError, match="several sweeps"):
        find("aa", tmp_path)
    with pytest.raises(StageError, match="no sweep 'cc'"):
        find("cc", tmp_path)


def test_a_folder_that_is_no_sweep_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="not the folder of a sweep"):
        Folder(tmp_path).about()
    (tmp_path / "sweep.json").write_text('{"spaces": 3}')
    with pytest.raises(StageError, match="not the folder of a sweep"):
        Folder(tmp_path).about()
