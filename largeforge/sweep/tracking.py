"""A sweep in MLflow: one parent run, and a nested run for each trial with its parameters and metrics.

MLflow takes seconds to import and may be a server that does not answer, so a process of its own
writes there after the last trial, and what goes wrong with it is a note: the sweep's own records
are complete without it. Writing again brings the runs up to date and makes none twice: a sweep
and its trials are found by their tags.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge import events, reaper
from largeforge.errors import LargeForgeError
from largeforge.recipe.schema import Registry
from largeforge.registry import mlflow_runs
from largeforge.registry.database import Database
from largeforge.registry.mlflow_runs import MAX_TAG, key
from largeforge.registry.storage import storage
from largeforge.sweep import leaderboard
from largeforge.sweep.folder import Folder
from largeforge.sweep.view import short_values

if TYPE_CHECKING:
    from largeforge.sweep.folder import About, Trial

LOG = "mlflow.log"
TIMEOUT_S = 180.0

_STATUS = {"done": "FINISHED", "refused": "FAILED", "failed": "FAILED", "invalid": "FAILED", "interrupted": "KILLED"}
_MAX_POINTS = 500
_SWEEP, _TRIAL, _RECORD = "largeforge.sweep", "largeforge.trial", "largeforge.record"
_PARENT = "parent"


def record(folder: Folder, registry: Registry) -> str:
    """Write the sweep to MLflow in a process of its own; return what went wrong, or nothing."""
    if find_spec("mlflow") is None:
        return "MLflow is not installed: pip install 'largeforge[registry]'"
    log = folder.path / LOG
    argv = reaper.command([sys.executable, "-m", "largeforge.sweep.tracking", str(folder.path)])
    with log.open("wb") as output:
        child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True)
        try:
            child.communicate(registry.model_dump_json().encode(), timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.terminate()
            child.wait()
            return f"it took longer than {TIMEOUT_S:.0f} s; see {log}"
        except KeyboardInterrupt:
            child.terminate()
            child.wait()
            return "interrupted"
    words = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return "" if child.returncode == 0 else (words[-1] if words else f"exit code {child.returncode}")


def main() -> int:
    """Write the sweep whose folder is the argument, into the registry on the standard input."""
    try:
        write(Folder(Path(sys.argv[1])), Registry(**json.load(sys.stdin)))
    except (LargeForgeError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def write(folder: Folder, registry: Registry) -> None:
    """Bring the sweep's runs in MLflow up to date.

    Raises RegistryError for what MLflow refuses, or a server that does not answer.
    """
    about, trials = folder.about(), folder.shown_trials()
    with Database(registry.uri).writing() as client:
        experiment = mlflow_runs.experiment(client, f"sweep {about.recipe}", storage(registry).root)
        runs = _existing(client, experiment, about)
        parent = runs.get(_PARENT) or _create(client, experiment, about, _PARENT, f"sweep {about.digest[:12]}", {})
        for trial in trials:
            if trial.state != "running":
                _write_trial(client, experiment, about, trial, runs.get(str(trial.number)), parent)
        _write_parent(client, parent, about, trials)


def _existing(client: Any, experiment: str, about: About) -> dict[str, Any]:
    """Return the runs of the sweep by the number of their trial."""
    found = mlflow_runs.tagged(client, experiment, _SWEEP, about.digest)
    return {run.data.tags.get(_TRIAL, ""): run for run in found}


def _create(client: Any, experiment: str, about: About, trial: str, name: str, tags: dict[str, str]) -> Any:
    own = {_SWEEP: about.digest, _TRIAL: trial, "mlflow.source.name": "largeforge", "largeforge.recipe": about.recipe}
    return client.create_run(experiment, run_name=name, tags={**own, **tags})


def _write_trial(client: Any, experiment: str, about: About, trial: Trial, run: Any, parent: Any) -> None:
    from mlflow.entities import Metric, Param, RunTag

    mark = f"{trial.state} {trial.digest} {trial.seconds}"
    if run is not None and run.data.tags.get(_RECORD) == mark:
        return
    name = f"#{trial.name} {short_values(trial.values)}"[:200]
    if run is None:
        nested = {"mlflow.parentRunId": parent.info.run_id}
        run = _create(client, experiment, about, str(trial.number), name, nested)
        params = [Param(key(name), value) for name, value in trial.values.items()]
        client.log_batch(run.info.run_id, params=params)
    now = int(time.time() * 1000)
    metrics = [Metric(key(name), value, now, 0) for name, value in trial.metrics.items() if not _is_curve(name)]
    curves = _curves(trial)
    for start in range(0, len(curves), _MAX_POINTS):
        client.log_batch(run.info.run_id, metrics=curves[start : start + _MAX_POINTS])
    tags = {
        "largeforge.state": trial.state, "largeforge.lock": trial.digest, "largeforge.run_dir": trial.run_dir,
        "largeforge.command": leaderboard.command(trial), "largeforge.reason": trial.reason[:MAX_TAG], _RECORD: mark,
    }  # fmt: skip
    client.log_batch(run.info.run_id, metrics=metrics, tags=[RunTag(name, value) for name, value in tags.items()])
    client.set_terminated(run.info.run_id, _STATUS[trial.state])


def _write_parent(client: Any, parent: Any, about: About, trials: list[Trial]) -> None:
    entries = leaderboard.rank(trials, about)
    winner = leaderboard.best(entries)
    run_id = parent.info.run_id
    tags = {"largeforge.objective": about.objective, "largeforge.direction": about.direction}
    if winner is not None:
        tags |= {"largeforge.best_trial": str(winner.number), "largeforge.best_command": leaderboard.command(winner)}
        client.log_metric(run_id, key(about.objective), winner.metrics[about.objective])
    client.log_metric(run_id, "trials_done", sum(trial.state == "done" for trial in trials))
    for name, value in tags.items():
        client.set_tag(run_id, name, value)
    client.set_terminated(run_id, "FINISHED")


def _is_curve(name: str) -> bool:
    return f".{name}".endswith(".train.loss")


def _curves(trial: Trial) -> list[Any]:
    """Return the training losses by step, thinned; they end with the loss that the trial itself reports."""
    from mlflow.entities import Metric

    found: dict[tuple[str, int], Any] = {}
    recorded = Path(trial.run_dir).glob("*/events.jsonl") if trial.run_dir else ()  # what reused stages told, too
    lines = [line for path in sorted(recorded) for line in path.read_text("utf-8", "replace").splitlines()]
    for line in lines:
        event = events.decode(line)
        if event is None or event["kind"] != "progress" or not isinstance(event.get("loss"), int | float):
            continue
        name, step = key(f"{event['stage']}.loss"), int(event.get("step") or 0)
        found[name, step] = Metric(name, float(event["loss"]), int(float(event["time"]) * 1000), step)
    points = list(found.values())
    stride = -(-len(points) // _MAX_POINTS) or 1
    last = [
        Metric(key(name), value, int(time.time() * 1000), int(trial.metrics.get(f"{name[:-4]}steps", 0)))
        for name, value in trial.metrics.items()
        if _is_curve(name)
    ]
    return [*points[::stride], *last]


if __name__ == "__main__":
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    sys.exit(main())
