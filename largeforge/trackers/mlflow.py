"""MLflow: a run for each run of LargeForge and, nested in it, one for each training.

Runs are found again by their tags, and MLflow keeps one of two equal values, so writing the same
twice changes nothing. A server's user and password come from MLFLOW_TRACKING_USERNAME and
MLFLOW_TRACKING_PASSWORD.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from largeforge.errors import RegistryError, TrackingError
from largeforge.recipe.base import Extension
from largeforge.recipe.sections.machines import Registry
from largeforge.recipe.tracking import Begun, Ended, Point, Summary

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from largeforge.recipe.tracking import About, File, Place, Record, Value

_RUN, _STAGE = "largeforge.run", "largeforge.stage"
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


class Config(Extension):
    """Where and under what name."""

    name: Literal["mlflow"] = "mlflow"
    uri: str = ""
    """MLflow's tracking URI; empty means the recipe's `registry.uri`."""
    experiment: str = ""
    """Name of the experiment; empty means the name of the recipe."""
    tags: dict[str, str] = {}
    """Further tags of the runs."""


def destination(config: Config, about: About, place: Place) -> str:
    """Return what tells this target from another."""
    from largeforge.registry.database import Database

    return f"{Database(_registry(config, place).uri)} {config.experiment or about.recipe}"


def connect(config: Config, about: About, place: Place) -> MlflowTracker:
    """Return a connection; nothing is written before the first record."""
    return MlflowTracker(config, about, _registry(config, place))


class MlflowTracker:
    """Writes records as they come."""

    durable = True

    def __init__(self, config: Config, about: About, registry: Registry):
        from largeforge.registry.database import Database
        from largeforge.registry.storage import storage

        self._config, self._about = config, about
        self._database, self._artifacts = Database(registry.uri), storage(registry).root
        self._runs: dict[str, str] = {}
        """Stage to the id of its run; that of the whole is under the empty name."""

    def write(self, records: Sequence[Record]) -> None:
        """Write metrics in batches, and each beginning and end in its place."""
        with self._client() as client:
            pending: dict[str, list[Any]] = {}
            for record in records:
                if isinstance(record, Point | Summary):
                    pending.setdefault(record.stage, []).extend(_metrics(record))
                    continue
                self._log(client, pending)
                if isinstance(record, Begun):
                    client.update_run(self._run(client, record.stage), "RUNNING")
                elif isinstance(record, Ended):
                    client.set_terminated(self._run(client, record.stage), _STATUS[record.how], int(record.time * 1000))
            self._log(client, pending)

    def close(self, files: Sequence[File]) -> None:
        """Add the files to their runs."""
        with self._client() as client:
            for file in files:
                client.log_artifact(self._run(client, file.stage), str(file.path))

    @contextmanager
    def _client(self) -> Iterator[Any]:
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # what it retries is told once, when it gives up
        try:
            with self._database.writing() as client:
                yield client
        except (RegistryError, OSError) as error:
            raise TrackingError(str(error).removeprefix("registry ")) from error

    def _log(self, client: Any, pending: dict[str, list[Any]]) -> None:
        from largeforge.registry.mlflow_runs import MAX_BATCH

        for stage, metrics in pending.items():
            run = self._run(client, stage)
            for start in range(0, len(metrics), MAX_BATCH):
                client.log_batch(run, metrics=metrics[start : start + MAX_BATCH])
        pending.clear()

    def _run(self, client: Any, stage: str) -> str:
        """Return the id of a run, found or made."""
        from largeforge.registry import mlflow_runs

        if not self._runs:
            experiment = mlflow_runs.experiment(client, self._config.experiment or self._about.recipe, self._artifacts)
            found = mlflow_runs.tagged(client, experiment, _RUN, self._about.run)
            self._runs = {run.data.tags.get(_STAGE, ""): run.info.run_id for run in found}
            self._experiment = experiment
            if "" not in self._runs:
                self._runs[""] = self._create(client, "", self._about.run, dict(self._about.params))
        if stage not in self._runs:
            self._runs[stage] = self._create(client, stage, stage, self._about.params_of(stage))
        return self._runs[stage]

    def _create(self, client: Any, stage: str, name: str, params: dict[str, Value]) -> str:
        from mlflow.entities import Param

        from largeforge.registry.mlflow_runs import MAX_PARAM, MAX_PARAMS, key

        about = self._about
        tags = {
            **self._config.tags, _RUN: about.run, "largeforge.recipe": about.recipe, "largeforge.lock": about.lock,
            "mlflow.source.name": "largeforge", **({_STAGE: stage} if stage else {}),
            **({"mlflow.parentRunId": self._runs[""]} if stage else {"mlflow.note.content": about.description}),
        }  # fmt: skip
        start = int((about.started or time.time()) * 1000)
        run = client.create_run(self._experiment, start_time=start, run_name=name, tags=tags)
        logged = [Param(key(name), str(value)[:MAX_PARAM]) for name, value in params.items()]
        for begin in range(0, len(logged), MAX_PARAMS):
            client.log_batch(run.info.run_id, params=logged[begin : begin + MAX_PARAMS])
        return str(run.info.run_id)


def _registry(config: Config, place: Place) -> Registry:
    registry = Registry(**place.registry)
    return registry.model_copy(update={"uri": config.uri}) if config.uri else registry


def _metrics(record: Point | Summary) -> list[Any]:
    from mlflow.entities import Metric

    from largeforge.registry.mlflow_runs import key

    step = record.step if isinstance(record, Point) else 0
    now = int(record.time * 1000)
    return [Metric(key(name), value, now, step) for name, value in record.values.items()]
