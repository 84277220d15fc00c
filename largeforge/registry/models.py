"""Register models and find them again.

A registration prepares the files completely, creates the version in one transaction, and moves
the alias last. Whatever is interrupted before that is invisible, and a later registration clears
it away. What a version is never changes; its tags, notes and aliases may. Changes of one model
take turns, on a local database by a lock, on an MLflow server in a queue (queue.py): the same
files registered twice at one instant are one version.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from largeforge.errors import RecipeError, RegistryError
from largeforge.recipe import lock as locks
from largeforge.registry import aliases, audit, files, lookup, records, runs, staging
from largeforge.registry.database import Database
from largeforge.registry.records import ModelVersion
from largeforge.registry.storage import ARTIFACT, storage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from largeforge.recipe.model_ref import ModelRef
    from largeforge.recipe.schema import Registry
    from largeforge.registry.copying import FileHash, Watch
    from largeforge.registry.files import Sheet
    from largeforge.registry.records import Kind, Lineage, RegisteredModel, VersionSummary


class ModelRegistry:
    """The models of one MLflow database or server; `watch` hears how far work on large files has come."""

    def __init__(self, settings: Registry, *, watch: Watch | None = None):
        self.database = Database(settings.uri)
        self.storage = storage(settings)
        self.watch = watch

    def register(
        self,
        name: str,
        folder: Path,
        *,
        kind: Kind,
        lineage: Lineage,
        metrics: Mapping[str, float],
        alias: str,
        lock: Mapping[str, Any] | None = None,
        card: str = "",
        tags: Mapping[str, str] | None = None,
        notes: str = "",
        action: str = "register",
        why: str = "",
        expected: Sheet | None = None,
        written: dict[str, FileHash] | None = None,
    ) -> ModelVersion:
        """Make the files below `folder` a new version of `name` and point `alias`, if any, at it.

        `lock` is that of the run that made them, `card` the README.md; both are kept beside the files. The same
        files under the same name are the version that they already are: only the alias moves, and damaged
        registered files are replaced. `action` and `why` are for the audit trail. `expected` is the manifest that the
        files must have; `written` are those that this process has just put there itself. Raises RegistryError.
        """
        lookup.check_names(name, alias)
        check_words(tags or {}, notes)
        with staging.staging(self.storage.folder) as staged:
            if written is None:
                hashes = files.copy_hashed(folder, staged, self.watch)
            else:
                hashes = files.adopt(folder, staged, written)
            if expected is not None:
                files.compare(hashes, expected, source=str(folder))
            digest = files.content_digest(kind, hashes)
            with self.database.writing() as client:
                known = _same(lookup.summaries(client, name), digest)
                if known is None:
                    lineage = runs.completed(client, lineage)
                    own = records.to_tags(kind, digest, lineage, metrics, lock)
                    files.write_manifest(
                        staged, kind, hashes, _about(lineage, metrics), lock, card or files.card_of(folder)
                    )
                    run_id, source, path = self._publish(client, name, staged, tags=own, metrics=metrics)
                else:
                    _restage(staged, known, kind, hashes, lock, card)
                    path = self.storage.restore(client, known, staged)
                with audit.turn(self.database, client, name) as turn:
                    there = lookup.summaries(client, name)
                    before = next((version.version for version in there if alias in version.aliases), None)
                    late = None if known else _same(there, digest)  # another process was quicker
                    known = known or late
                    if known is None:
                        turn.begin(action, alias=alias, why=why, before=str(before or ""))
                        known = runs.enter(client, name, run_id, source, {**(tags or {}), **own}, notes)
                        turn.begin(action, known)
                    if alias:
                        aliases.forward(client, turn, action, known, alias, before=before, why=why)
                if late:
                    runs.discard(client, self.storage, run_id)
                made = _numbered(client, name, known.version)
        return _with_path(made, path)

    def resolve(self, ref: ModelRef) -> ModelVersion:
        """Find a version by number or alias (`champion` when neither is given) and verify its files.

        Raises RegistryError with what exists when it is missing, and with each bad file when it
        is damaged.
        """
        with self.database.reading() as client:
            version = lookup.one(client, self.database, ref)
            lookup.check_seal(client, version)
            return _with_path(version, self.storage.fetch(client, version, self.watch))

    def find(self, ref: ModelRef) -> VersionSummary:
        """Find a version as `resolve` does, without looking at its files.

        Raises RegistryError when it is missing.
        """
        with self.database.reading() as client:
            return lookup.one(client, self.database, ref)

    def verify(self, version: VersionSummary) -> None:
        """Read every byte of a version where it is kept, and hold its record and its lock against their seals.

        Raises RegistryError that names what is damaged.
        """
        with self.database.reading() as client:
            lookup.check_seal(client, version)
            self.storage.verify(client, version, self.watch)
        self.lock(version)

    def lock(self, version: VersionSummary) -> dict[str, Any]:
        """Return the lock of the run that made a version; empty when it was registered without one.

        Raises RegistryError when it is not the one that was registered.
        """
        if isinstance(version, ModelVersion):
            path = version.path / files.LOCK
            content, source = (path.read_bytes() if path.is_file() else None), str(path)
        else:
            with self.database.reading() as client:
                content, source = self.storage.read(client, version, files.LOCK), files.LOCK
        if content is None:
            return {}
        try:
            found = locks.parse(content.decode("utf-8", errors="replace"), source=source)
        except RecipeError as error:
            raise RegistryError(f"{version.reference} is damaged: {error}") from error
        if found["digest"] != version.lock:
            raise RegistryError(f"{version.reference} is damaged: {source} is the lock of another run")
        if version.lock_sha256 and records.lock_digest(json.loads(content)) != version.lock_sha256:
            raise RegistryError(f"{version.reference} is damaged: {source} was changed after it was registered")
        return found

    def annotate(
        self, version: VersionSummary, *, tags: Mapping[str, str] | None = None, notes: str | None = None
    ) -> VersionSummary:
        """Change the words of people about a version: tags (an empty one is removed) and notes.

        Raises RegistryError for a tag that is LargeForge's: what a version is does not change.
        """
        check_words(tags or {}, notes or "")
        number = str(version.version)
        with self.database.writing() as client:
            for key, text in (tags or {}).items():
                if text:
                    client.set_model_version_tag(version.name, number, key, text)
                else:
                    client.delete_model_version_tag(version.name, number, key)
            if notes is not None:
                client.update_model_version(version.name, number, notes)
            return _numbered(client, version.name, version.version)

    def log(self, name: str = "") -> list[audit.Entry]:
        """Return the audit trail of a model, or of all, the first entry first."""
        with self.database.reading() as client:
            return audit.entries(client, name)

    def list_models(self) -> list[RegisteredModel]:
        """Return every model that has a version, by name."""
        with self.database.reading() as client:
            return lookup.models(client)

    def versions(self, name: str) -> list[VersionSummary]:
        """Return the versions of `name`, oldest first; none when there is no such model."""
        with self.database.reading() as client:
            return lookup.summaries(client, name)

    def _publish(
        self, client: Any, name: str, staged: Path, *, tags: dict[str, str], metrics: Mapping[str, float]
    ) -> tuple[str, str, Path]:
        """Log a run with the metrics and the files; return its id, the address of the files, and their folder."""
        experiment = runs.experiment(client, self.storage)
        runs.clear_abandoned(client, self.storage, experiment, alone=self.database.is_local)
        run = runs.begin(client, experiment, name, metrics)
        path = self.storage.publish(client, run.info.run_id, staged, tags[records.SEAL_TAG])
        return run.info.run_id, f"{run.info.artifact_uri}/{ARTIFACT}", path


def check_words(tags: Mapping[str, str], notes: str) -> None:
    """Refuse tags and notes that are not for people to set, or too long for MLflow.

    Raises RegistryError.
    """
    for key, text in tags.items():
        if key.startswith((records.OWN, "mlflow.")):
            rule = "a version never changes in what it is; files, metrics, lineage and lock are written once"
            raise RegistryError(f"tag {key}: {rule}. Choose another name, or register a new version")
        if len(text) > records.MAX_TAG:
            raise RegistryError(f"tag {key}: it has {len(text)} characters; at most {records.MAX_TAG}, or use notes")
    if len(notes) > records.MAX_NOTES:
        raise RegistryError(f"notes: they have {len(notes)} characters; at most {records.MAX_NOTES}")


def _restage(
    staged: Path,
    known: VersionSummary,
    kind: Kind,
    hashes: dict[str, FileHash],
    lock: Mapping[str, Any] | None,
    card: str,
) -> None:
    """Lay the known version's own record beside staged files; a lock only if it is that of the run that made them."""
    is_its = bool(lock) and lock is not None and lock.get("digest") == known.lock
    if is_its and known.lock_sha256:
        is_its = records.lock_digest(lock or {}) == known.lock_sha256
    files.write_manifest(staged, kind, hashes, _about(known.lineage, known.metrics), lock if is_its else None, card)


def _about(lineage: Lineage, metrics: Mapping[str, float]) -> dict[str, Any]:
    return {"lineage": records.lineage_json(lineage), "metrics": records.metrics_json(metrics)}


def _same(versions: Sequence[VersionSummary], digest: str) -> VersionSummary | None:
    """Return the newest version with these files."""
    found = [version for version in versions if version.digest == digest]
    return found[-1] if found else None


def _numbered(client: Any, name: str, number: int) -> VersionSummary:
    return next(version for version in lookup.summaries(client, name) if version.version == number)


def _with_path(version: VersionSummary, path: Path) -> ModelVersion:
    return ModelVersion(**vars(version), path=path)
