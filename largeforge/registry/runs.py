"""The MLflow runs that hold the files of versions: begun before the upload, entered as a version after it.

A run that is still open and has no version belongs to a registration under way, or to one that was killed. On a
local database the lock tells the two apart; on a server the process that its tag names does where it ran on this
host, and elsewhere a day does.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge import artifacts
from largeforge.recipe import model_ref
from largeforge.registry import lookup, mlflow_runs, queue
from largeforge.registry.mlflow_runs import key
from largeforge.registry.records import Step, from_tags

if TYPE_CHECKING:
    from collections.abc import Mapping

    from largeforge.registry.records import Lineage, VersionSummary
    from largeforge.registry.storage import Storage

_EXPERIMENT = "largeforge registry"
_ABANDONED_S = 24 * 3600.0
"""No upload takes as long."""


def experiment(client: Any, storage: Storage) -> str:
    """Return the MLflow experiment of registrations; one for each place of files, which MLflow fixes for good."""
    name = f"{_EXPERIMENT} {storage.root}" if storage.root else _EXPERIMENT
    return mlflow_runs.experiment(client, name, storage.root)


def begin(client: Any, experiment: str, name: str, metrics: Mapping[str, float]) -> Any:
    """Open a run and log metrics under names that MLflow accepts; the tags of the version keep the exact ones."""
    from mlflow.entities import Metric

    now_ms = int(time.time() * 1000)
    tags = {"mlflow.source.name": "largeforge", **queue.ticket()}
    run = client.create_run(experiment, start_time=now_ms, run_name=name, tags=tags)
    logged = [Metric(key(name), value, now_ms, 0) for name, value in metrics.items()]
    if logged:
        client.log_batch(run.info.run_id, metrics=logged)
    return run


def enter(client: Any, name: str, run_id: str, source: str, tags: Mapping[str, str], notes: str) -> VersionSummary:
    """Make the files of a run a version, in one transaction, and return it."""
    ensure_model(client, name)
    made = client.create_model_version(name, source, run_id=run_id, tags=dict(tags), description=notes or None)
    client.set_terminated(run_id)
    number = int(made.version)
    return from_tags(name=name, version=number, tags=tags, aliases=(), run_id=run_id, source=source, notes=notes)


def ensure_model(client: Any, name: str) -> None:
    """Make a registered model unless it is there, or another process is just making it."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def discard(client: Any, storage: Storage, run_id: str, key: str = "") -> None:
    """Remove a run that is no version, with its files; opened first, so that whoever is killed here is followed up."""
    if client.get_run(run_id).info.status != "RUNNING":
        client.update_run(run_id, status="RUNNING")
    storage.discard(client, run_id, key)
    client.delete_run(run_id)


def clear_abandoned(client: Any, storage: Storage, experiment: str, *, alone: bool) -> None:
    """End the runs of registrations that were killed; `alone`: under the lock, where no open run is alive."""
    for run in client.search_runs([experiment], "attributes.status = 'RUNNING'"):
        run_id = run.info.run_id
        if not alone and not _is_abandoned(run):
            continue
        if client.search_model_versions(f"run_id = '{run_id}'"):
            client.set_terminated(run_id)
        else:
            discard(client, storage, run_id)


def completed(client: Any, lineage: Lineage) -> Lineage:
    """Return a lineage with what the registry and the run can add: digests of parents, the steps of the run."""
    from dataclasses import replace

    known: dict[str, str] = {}
    for reference in lineage.parents:
        ref = _registered(reference)
        versions = lookup.summaries(client, ref.target) if ref is not None else []
        known.update((reference, found.digest) for found in versions if found.reference == reference)
    steps = lineage.steps or steps_of(lineage)
    return replace(lineage, parent_digests={**known, **lineage.parent_digests}, steps=steps)


def steps_of(lineage: Lineage) -> list[Step]:
    """Return the stages of the run that led to the files, the first one first; none where the run is not here.

    Manifests name what a stage was given by its fingerprint, so they can be followed back from the files.
    """
    if not lineage.run_dir or not lineage.fingerprint:
        return []
    found = [artifacts.read_manifest(path.parent) for path in Path(lineage.run_dir).glob(f"*/{artifacts.MANIFEST}")]
    made = {manifest.fingerprint: manifest for manifest in found if manifest}
    steps: dict[str, Step] = {}
    todo = [lineage.fingerprint]
    while todo:
        manifest = made.get(todo.pop())
        if manifest is None or manifest.fingerprint in steps:
            continue
        steps[manifest.fingerprint] = Step(manifest.stage, manifest.kind, manifest.fingerprint)
        todo += manifest.inputs.values()
    ordered = sorted(steps.values(), key=lambda step: made[step.fingerprint].started)
    return ordered


def _registered(reference: str) -> model_ref.ModelRef | None:
    try:
        ref = model_ref.parse(reference)
    except ValueError:
        return None
    return ref if ref.scheme == "registry" and ref.is_version else None


def _is_abandoned(run: Any) -> bool:
    return queue.is_dead(run.data.tags.get(queue.PROCESS, "")) or (
        time.time() - run.info.start_time / 1000 > _ABANDONED_S
    )
