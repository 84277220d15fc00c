"""Sweeps for real: killed and continued, with trials that fail, and as one group in MLflow."""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_training import rows, small
from tests.e2e.workspace import Workspace, processes

GRID = (
    "-m", "+recipe=small", "dataset.path=words.jsonl,broken.jsonl", "method.max_steps=12,24,few", "seed=1",
    "register_as=small", "sweep.objective=loss", "gates.vs_base.loss='< -0.1'",
)  # fmt: skip
OPTUNA = (
    "-m", "+recipe=small", "sweep=optuna", "method.learning_rate=tag(log,interval(1e-3,3e-2))",
    "~evaluation", "~gates", "method.max_steps=10",
)  # fmt: skip


def trials(workspace: Workspace) -> dict[int, dict[str, Any]]:
    """Return the records of all trials of the one sweep."""
    found = [json.loads(path.read_text()) for path in workspace.path.glob("runs/sweeps/*/*/trials/*/trial.json")]
    return {trial["number"]: trial for trial in found}


def kill_after_the_first(workspace: Workspace, *words: str) -> dict[str, Any]:
    """Start a sweep, kill it when one trial is done, and return that trial's record."""
    process = workspace.start(*words)
    deadline = time.monotonic() + 300
    while not (done := [trial for trial in trials(workspace).values() if trial["state"] == "done"]):
        assert process.poll() is None, workspace.output
        assert time.monotonic() < deadline, workspace.output
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while processes("largeforge", str(workspace.path)) or processes("largeforge", "+recipe=small"):
        assert time.monotonic() < deadline, "a trial outlived the killed sweep"
        time.sleep(0.1)
    return done[0]


@pytest.mark.thorough
def test_a_killed_grid_continues_past_trials_that_fail_and_is_one_group_in_mlflow(workspace: Workspace) -> None:
    small(workspace)
    workspace.write("broken.jsonl", "{not json\n")
    first = kill_after_the_first(workspace, *GRID)
    result = workspace.run(*GRID)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "1 done before" in result.stdout
    assert "2 of 6 trials are invalid" in result.stderr
    found = trials(workspace)
    states = {number: trial["state"] for number, trial in found.items()}
    assert states == {0: "done", 1: "done", 2: "invalid", 3: "failed", 4: "failed", 5: "invalid"}
    assert found[first["number"]] == first, "a finished trial ran again"
    assert "broken.jsonl:1" in found[3]["reason"]
    assert not (workspace.path / "registry" / "artifacts").exists(), "a trial was registered"

    folder = next(workspace.path.glob("runs/sweeps/small/*"))
    board = list(csv.DictReader((folder / "leaderboard.csv").read_text().splitlines()))
    assert [row["rank"] for row in board] == ["1", "2", "", "", "", ""]
    assert board[0]["trial"] == "1", "more steps learn more"
    assert float(board[0]["objective"]) < float(board[1]["objective"])
    page = (folder / "sweep.html").read_text()
    assert page.count("/report.html") == 2, "trials that ran have a report"
    assert "broken.jsonl:1" in page
    assert board[0]["command"] in result.stdout
    _check_mlflow(workspace, found)

    shown = workspace.run("leaderboard")
    assert shown.returncode == 1
    assert "2 done, 2 failed, 2 invalid of 6" in shown.stdout

    again = workspace.run(*shlex.split(board[0]["command"])[3:])
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count("reused") == 5, "only the registration was left to do"
    assert "registry:small@champion" in again.stdout or (workspace.path / "registry" / "artifacts").exists()


def _check_mlflow(workspace: Workspace, found: dict[int, dict[str, Any]]) -> None:
    from largeforge.recipe.schema import Registry
    from largeforge.registry.database import Database
    from largeforge.sweep import tracking
    from largeforge.sweep.folder import Folder

    registry = Registry(uri=f"sqlite:///{workspace.path}/registry/mlflow.db", artifacts=f"{workspace.path}/registry/a")
    tracking.write(Folder(next(workspace.path.glob("runs/sweeps/small/*"))), registry)  # once more makes no run twice
    with Database(registry.uri).reading() as client:
        experiment = client.get_experiment_by_name("sweep small")
        runs = client.search_runs([experiment.experiment_id])
        curve = {
            run.data.tags["largeforge.trial"]: client.get_metric_history(run.info.run_id, "train.loss") for run in runs
        }
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = {run.data.tags["largeforge.trial"]: run for run in runs if run not in parents}
    assert (len(parents), len(children), len(runs)) == (1, len(found), len(found) + 1)
    assert parents[0].data.tags["largeforge.best_trial"] == "1"
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parents[0].info.run_id}
    assert set(children) == {str(number) for number in found}
    best = children["1"]
    assert best.info.status == "FINISHED"
    assert best.data.params["method.max_steps"] == "24"
    assert best.data.metrics["loss"] == found[1]["metrics"]["loss"]
    assert best.data.tags["largeforge.lock"] == found[1]["digest"]
    assert Path(best.data.tags["largeforge.run_dir"]).is_dir()
    assert len(curve["1"]) >= 24
    assert children["3"].info.status == "FAILED"


def test_a_killed_search_continues_to_its_number_of_trials(workspace: Workspace) -> None:
    small(workspace)
    workspace.write("words.jsonl", rows(60))
    first = kill_after_the_first(workspace, *OPTUNA, "sweep.n_trials=3")
    begun = {number: trial["values"] for number, trial in trials(workspace).items()}
    result = workspace.run(*OPTUNA, "sweep.n_trials=4")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "to minimize train.loss" in result.stdout
    found = trials(workspace)
    assert {number: trial["state"] for number, trial in found.items()} == dict.fromkeys(range(4), "done")
    assert found[first["number"]] == first, "a finished trial ran again"
    assert {number: found[number]["values"] for number in begun} == begun, "a trial that was begun changed its values"
    assert len({trial["values"]["method.learning_rate"] for trial in found.values()}) == 4
