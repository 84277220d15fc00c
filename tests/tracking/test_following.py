"""Trackers beside a run: never in its way, and what goes wrong is one note."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from largeforge.recipe.compose import compose
from largeforge.recipe.validate import validate
from largeforge.tracking import following
from tests.fakes.recorded import Desk

if TYPE_CHECKING:
    from largeforge.recipe.schema import Recipe

WELL = "import sys, json; print(json.loads(sys.stdin.readline())['config']['name'], file=sys.stderr); sys.stdin.read()"
HANGS = "import time; time.sleep(600)"
REFUSED = "print('the server does not answer'); print('again', flush=True); import sys; sys.stdin.read(); sys.exit(1)"
DIES = "import sys; print('first', file=sys.stderr); sys.exit('no module named wandb')"


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    return Desk(tmp_path)


def recipe(*words: str) -> Recipe:
    return validate(compose(["+recipe=small", *words]))


def follow(program: str, *words: str, monkeypatch: pytest.MonkeyPatch, patience_s: float = 30) -> list[str]:
    monkeypatch.setattr(following, "PROGRAM", ("-c", program))
    with following.following(Path("run").absolute(), recipe(*words)) as trackers:
        return trackers.close(patience_s=patience_s)


def test_trackers_are_chosen_by_name_and_together(desk: Desk) -> None:
    assert recipe().tracking == {}
    assert recipe("tracking=none").tracking == {}
    both = recipe("tracking=[mlflow,wandb_offline]", "tracking.mlflow.experiment=mine").tracking
    assert {name: tracker.model_dump().get("mode") for name, tracker in both.items()} == {
        "mlflow": None,
        "wandb": "offline",
    }


def test_a_tracker_that_does_well_says_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert follow(WELL, "tracking=[mlflow,wandb]", monkeypatch=monkeypatch) == []
    assert following.log_of(Path("run"), "wandb").read_text() == "wandb\n"


def test_one_that_hangs_is_ended_and_how_to_send_later_is_said(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    (said,) = follow(HANGS, "tracking=mlflow", monkeypatch=monkeypatch, patience_s=0.2)
    assert "mlflow does not track this run: it was not done within" in said
    assert said.endswith("python -m largeforge track run")


@pytest.mark.parametrize(("program", "words"), [(REFUSED, "again"), (DIES, "no module named wandb")])
def test_what_goes_wrong_is_one_note(desk: Desk, monkeypatch: pytest.MonkeyPatch, program: str, words: str) -> None:
    (said,) = follow(program, "tracking=wandb", monkeypatch=monkeypatch)
    assert words in said


def test_what_the_run_is_tracked_with_is_kept_without_passwords(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (
        "tracking=mlflow",
        "tracking.mlflow.uri=http://ann:hidden@mlflow.example",
        "registry.uri=http://b:hidden@m",
    )
    follow(WELL, *words, monkeypatch=monkeypatch)
    kept = following.recorded(Path("run"))
    assert kept["tracking"]["mlflow"]["uri"] == "http://mlflow.example"
    assert "hidden" not in json.dumps(kept)


def test_trials_of_a_sweep_leave_mlflow_to_the_sweep(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(WELL, "tracking=[mlflow,wandb]", "sweep.trial=true", monkeypatch=monkeypatch)
    assert not following.log_of(Path("run"), "mlflow").exists()
    assert following.log_of(Path("run"), "wandb").exists()


def test_an_error_of_the_run_leaves_no_process(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "PROGRAM", ("-c", HANGS))
    with pytest.raises(KeyError), following.following(Path("run").absolute(), recipe("tracking=mlflow")) as trackers:
        pid = trackers.processes["mlflow"].popen.pid
        raise KeyError
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_tracking_changes_neither_lock_nor_fingerprints(desk: Desk) -> None:
    plain, followed = desk.plan(), desk.plan("tracking=[mlflow,wandb]", "tracking.wandb.project=p")
    assert plain.digest == followed.digest
    assert [stage.fingerprint for stage in plain.stages] == [stage.fingerprint for stage in followed.stages]
