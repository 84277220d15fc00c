"""The audit trail: who changed an alias, or deleted or imported a version, when, why, and on which gates.

Each entry is an MLflow run of its own in the experiment `largeforge audit`, so that a team shares the trail with
its registry, MLflow's pages show it, and two people at once cannot overwrite each other's entry. It is written
before the change and closed after it: what was killed between stays there as broken off. Entries are numbered for
each model, within a turn; the numbers, not the clocks of several machines, say what came first.
"""

from __future__ import annotations

import getpass
import os
import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from largeforge.registry import mlflow_runs, queue
from largeforge.registry.database import every

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from largeforge.registry.database import Database
    from largeforge.registry.records import VersionSummary

EXPERIMENT = "largeforge audit"
MAX_WHY = 2000
"""Longest reason, in characters."""
_PREFIX = "largeforge.audit."
_NUMBER = f"{_PREFIX}number"

State = Literal["done", "under way", "failed", "broken off"]
_STATES: dict[str, State] = {"FINISHED": "done", "RUNNING": "under way", "FAILED": "failed"}


@dataclass(frozen=True)
class Entry:
    """One change."""

    id: str
    number: int
    """Place among the changes of its model."""
    state: State
    when: float
    """Seconds since 1970, by the clock of who changed it."""
    who: str
    """user@host"""
    model: str
    action: str
    """register, promote, demote, rollout, delete, import, pull, push or restore."""
    alias: str = ""
    """The alias that was moved."""
    before: str = ""
    """Version that the alias had."""
    version: str = ""
    """Version that it got, or that was acted on."""
    why: str = ""
    forced: str = ""
    """What stood against it and was overruled; empty when nothing did."""
    gates: str = ""
    """The gates of the version, in words."""
    run_dir: str = ""
    """Run with the gate report, on the machine that made it."""
    lock: str = ""
    """Digest of the lock of that run."""
    detail: str = ""


class Turn:
    """The right to change a model; nobody else who keeps to turns changes it meanwhile."""

    def __init__(self, client: Any, experiment: str, model: str, run_id: str = ""):
        self._client, self._experiment, self._model = client, experiment, model
        self._run_id = run_id
        self._told: dict[str, str] = {}
        self.has_begun = False

    def begin(self, action: str, version: VersionSummary | None = None, **facts: str) -> None:
        """Write the entry, before the change that it tells of; once begun, it is only added to."""
        told = {**({} if version is None else _of(version)), **facts}
        if not self.has_begun:
            self.has_begun = True
            last = queue.last(self._client, self._experiment, self._model, _NUMBER)
            told |= {"action": action, "number": f"{last + 1:08d}"}
            if self._run_id:
                queue.insist(self._client, self._run_id)
            else:
                self._run_id = _create(self._client, self._experiment, self._model, _tags(**told))
                self._told = told
        self.add(**told)

    def add(self, **facts: str) -> None:
        """Add to the entry what became known."""
        new = {key: text for key, text in facts.items() if text and self._told.get(key) != text}
        _write(self._client, self._run_id, _tags(**new))
        self._told |= new

    def close(self, error: BaseException | None = None) -> None:
        """Say how it ended; a turn in which nothing was changed leaves no entry."""
        if not self.has_begun:
            if self._run_id:
                self._client.delete_run(self._run_id)
            return
        if error is not None:
            self.add(detail=str(error)[:500] or type(error).__name__)
        self._client.set_terminated(self._run_id, "FAILED" if error is not None else "FINISHED")


@contextmanager
def turn(database: Database, client: Any, model: str) -> Iterator[Turn]:
    """Wait for the turn to change a model: by the lock of a local database, which the caller holds, or in a queue."""
    experiment = mlflow_runs.experiment(client, EXPERIMENT, None)
    if database.is_local:
        queue.end_broken(client, experiment, model)
        run_id = ""
    else:
        run_id = _create(client, experiment, model, queue.ticket())
        queue.wait(client, experiment, model, run_id)
    mine = Turn(client, experiment, model, run_id)
    try:
        yield mine
    except BaseException as error:
        mine.close(error)
        raise
    mine.close()


def entries(client: Any, model: str = "") -> list[Entry]:
    """Return the changes of a model, or of all, the first one first."""
    found = client.get_experiment_by_name(EXPERIMENT) if client is not None else None
    if found is None:
        return []
    runs = queue.runs(client, found.experiment_id, model) if model else _all(client, found.experiment_id)
    known = [_entry(run) for run in runs if f"{_PREFIX}action" in run.data.tags]
    return sorted(known, key=lambda entry: (entry.number, entry.id) if model else (entry.when, entry.id))


def retell(client: Any, experiment: str, entry: Mapping[str, Any]) -> None:
    """Write an entry of another trail as it was."""
    told = {key: str(text) for key, text in entry.items() if key not in ("id", "number", "state", "when", "model")}
    tags = {**_tags(**told), queue.MODEL: str(entry["model"]), _NUMBER: f"{entry['number']:08d}"}
    when_ms = int(entry["when"] * 1000)
    name = f"{entry['action']} {entry['model']}"
    run = client.create_run(experiment, start_time=when_ms, run_name=name, tags=tags)
    status = {state: status for status, state in _STATES.items() if state != "under way"}.get(entry["state"], "KILLED")
    client.set_terminated(run.info.run_id, status, end_time=when_ms)


def who() -> str:
    """Return user@host of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without an entry for this user
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _all(client: Any, experiment: str) -> list[Any]:
    return every(lambda **page: client.search_runs([experiment], **page), "")


def _of(version: VersionSummary) -> dict[str, str]:
    gates = version.lineage.gates
    passed = sum(gate.passed for gate in gates)
    refused = ", ".join(gate.metric for gate in gates if not gate.passed)
    told = f"{passed} of {len(gates)} passed{f'; not {refused}' if refused else ''}" if gates else "none"
    return {
        "version": str(version.version),
        "gates": told,
        "run_dir": version.lineage.run_dir,
        "lock": version.lineage.lock,
    }


def _tags(**facts: str) -> dict[str, str]:
    return {f"{_PREFIX}{key}": text for key, text in facts.items() if text}


def _create(client: Any, experiment: str, model: str, tags: dict[str, str]) -> str:
    about = {queue.MODEL: model, f"{_PREFIX}who": who(), "mlflow.source.name": "largeforge"}
    name = f"{tags.get(f'{_PREFIX}action', 'change')} {model}"
    now_ms = int(time.time() * 1000)
    run = client.create_run(experiment, start_time=now_ms, run_name=name, tags={**about, **tags})
    return str(run.info.run_id)


def _write(client: Any, run_id: str, tags: dict[str, str]) -> None:
    from mlflow.entities import RunTag

    if tags:
        client.log_batch(run_id, tags=[RunTag(key, text) for key, text in tags.items()])


def _entry(run: Any) -> Entry:
    tags = run.data.tags
    known = {item.name for item in fields(Entry)} - {"id", "number", "state", "when", "model"}
    told = {name: tags[f"{_PREFIX}{name}"] for name in known if f"{_PREFIX}{name}" in tags}
    return Entry(
        id=run.info.run_id,
        number=queue.number_of(run, _NUMBER),
        state=_STATES.get(run.info.status, "broken off"),
        when=run.info.start_time / 1000,
        model=tags.get(queue.MODEL, ""),
        **told,
    )
