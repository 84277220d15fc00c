"""Bring a backup back: a local registry as it was, byte for byte, or the versions onto a server, with their numbers.

Files come first and are verified on their way; the database, or the alias, comes last. A registry that is there is
not overwritten.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.errors import RegistryError, listed
from largeforge.registry import audit, lookup, mlflow_runs, records, runs, staging
from largeforge.registry.backup import record_of
from largeforge.registry.copying import FileHash, Meter
from largeforge.registry.objects import Objects
from largeforge.registry.storage import ARTIFACT, LocalFolder

if TYPE_CHECKING:
    from largeforge.registry.backup import Snapshot
    from largeforge.registry.models import ModelRegistry


@dataclass
class Restored:
    """What was brought back."""

    versions: int = 0
    aside: list[str] = field(default_factory=list)
    """Where what was there before lies now."""


def restore(registry: ModelRegistry, folder: Path, snapshot: Snapshot, *, replace: bool = False) -> Restored:
    """Bring a snapshot back.

    Raises RegistryError when the backup is damaged, or when there is a registry already.
    """
    total = sum(entry.size for entry in snapshot.files)
    meter = Meter(registry.watch, f"restoring {snapshot.time}", total)
    objects = Objects(folder / "objects")
    if snapshot.database and registry.database.path is not None and isinstance(registry.storage, LocalFolder):
        done = _local(registry.database.path, registry.storage.folder, snapshot, objects, meter, replace=replace)
        registry.database.close()
        return done
    if replace:
        raise RegistryError("only a local registry can be replaced; restore onto an empty server")
    return _onto(registry, snapshot, objects, meter)


def _local(
    database: Path, folder: Path, snapshot: Snapshot, objects: Objects, meter: Meter, *, replace: bool
) -> Restored:
    """Prepare everything aside, then rename files and database into place, the database last."""
    assert snapshot.database is not None
    done = Restored(sum(map(len, snapshot.models.values())))
    with staging.locked(database.with_name(f"{database.name}.lock")):
        there = [path for path in (database, folder) if path.exists() and not _is_bare(path)]
        if there and not replace:
            told = " and ".join(map(str, there))
            raise RegistryError(f"{told} is there already; --replace moves it aside, or choose another registry.uri=…")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with staging.staging(folder.parent) as staged:
            for version in (version for found in snapshot.models.values() for version in found):
                home = staged / version["run_id"] / "artifacts" / ARTIFACT
                for name, entry in version["files"].items():
                    objects.take(FileHash(**entry), home / name, meter)
            for name, entry in snapshot.others.items():
                objects.take(FileHash(**entry), staged / name, meter)
            copy = staged.parent / "database"
            objects.take(FileHash(**snapshot.database["file"]), copy, meter)
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            for path in there:
                aside = path.with_name(f"{path.name}.replaced-{stamp}")
                path.rename(aside)
                done.aside.append(str(aside))
            if folder.exists():
                shutil.rmtree(folder)
            staged.rename(folder)
            database.parent.mkdir(parents=True, exist_ok=True)
            copy.rename(database)
        staging.sync(database.parent)
    return done


def _is_bare(path: Path) -> bool:
    """Whether a folder has nothing in it but locks."""
    return path.is_dir() and all(entry.name == ".lock" for entry in path.iterdir())


def _onto(registry: ModelRegistry, snapshot: Snapshot, objects: Objects, meter: Meter) -> Restored:
    """Register every version anew under its number, then its aliases, then the audit trail."""
    done = Restored()
    with registry.database.writing() as client:
        taken = [name for name in snapshot.models if lookup.summaries(client, name)]
        if taken:
            raise RegistryError(f"{registry.database} has models of these names already: {listed(taken)}")
        for name, versions in snapshot.models.items():
            last = 0
            for version in sorted(versions, key=lambda each: int(each["number"])):
                for number in range(last + 1, int(version["number"])):
                    _skip(client, name, number)
                _register(registry, client, name, version, objects, meter)
                last = int(version["number"])
                done.versions += 1
            for version in versions:
                for alias in version["aliases"]:
                    client.set_registered_model_alias(name, alias, str(version["number"]))
            _retell(registry, client, name, snapshot)
    return done


def _register(
    registry: ModelRegistry, client: Any, name: str, version: dict[str, Any], objects: Objects, meter: Meter
) -> None:
    tags = version["tags"]
    with staging.staging(registry.storage.folder) as staged:
        for path, entry in version["files"].items():
            objects.take(FileHash(**entry), staged / path, meter)
        run = runs.begin(client, runs.experiment(client, registry.storage), name, record_of(version)[1])
        key = tags.get(records.SEAL_TAG) or tags[records.DIGEST_TAG]
        registry.storage.publish(client, run.info.run_id, staged, key)
    made = runs.enter(client, name, run.info.run_id, f"{run.info.artifact_uri}/{ARTIFACT}", tags, version["notes"])
    _insist(client, name, made.version, int(version["number"]))


def _skip(client: Any, name: str, number: int) -> None:
    """Use up a number that was deleted before the backup: MLflow gives numbers in order."""
    runs.ensure_model(client, name)
    made = client.create_model_version(name, f"restored:/{name}/{number}")
    client.delete_model_version(name, str(made.version))
    _insist(client, name, int(made.version), number)


def _insist(client: Any, name: str, made: int, number: int) -> None:
    """Take back a version that did not get its number."""
    if made == number:
        return
    with contextlib.suppress(Exception):
        client.delete_model_version(name, str(made))
    rule = "the server had versions of this name, also deleted ones, or somebody registers there now"
    raise RegistryError(f"{name}/{number} would become {name}/{made}: {rule}; restore onto an empty server")


def _retell(registry: ModelRegistry, client: Any, name: str, snapshot: Snapshot) -> None:
    """Write the entries of the trail again, with their times and numbers, and one more for this."""
    experiment = mlflow_runs.experiment(client, audit.EXPERIMENT, None)
    for entry in (entry for entry in snapshot.trail if entry["model"] == name):
        audit.retell(client, experiment, entry)
    with audit.turn(registry.database, client, name) as turn:
        turn.begin("restore", detail=f"from the backup of {snapshot.source} at {snapshot.time}")
