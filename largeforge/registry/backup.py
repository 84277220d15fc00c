"""Back up a whole registry, again and again into one folder: each time only what is new is copied.

    BACKUP/objects/<ab>/<sha256>        files by content, each once for all snapshots; also databases
    BACKUP/snapshots/<time>.json        what was there: versions, aliases, audit trail, files; written last

A snapshot of a local registry is what its database held at one instant (SQLite's online backup), whatever others
write meanwhile; versions never change, so their files can be copied afterwards. Of a server it is what MLflow's API
tells: see docs/registry.md for what that leaves out. Every file is verified on its way in and on its way out.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import sqlite3
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge import artifacts
from largeforge.errors import RegistryError, listed, nearest
from largeforge.registry import audit, copying, files, lookup, records, staging
from largeforge.registry.copying import FileHash, Meter
from largeforge.registry.database import Database, every
from largeforge.registry.objects import Objects
from largeforge.registry.storage import LocalFolder

if TYPE_CHECKING:
    from largeforge.registry.models import ModelRegistry
    from largeforge.registry.records import VersionSummary

_ATTEMPTS = 3
"""Times that a snapshot is begun again because a version was deleted while its files were copied."""
_FORMAT = 1


@dataclass
class Snapshot:
    """What was in a registry at one instant."""

    time: str
    source: str
    """The registry, without a password."""
    models: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Versions of each model: number, tags, notes, aliases, time, files."""
    trail: list[dict[str, Any]] = field(default_factory=list)
    """The audit trail."""
    database: dict[str, Any] | None = None
    """The database file of a local registry, and the folder that its files were in."""
    others: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Other files below the artifacts of a local registry, such as those of tracked runs."""
    format: int = _FORMAT

    @property
    def files(self) -> list[FileHash]:
        """Every file that the snapshot needs."""
        versions = [version for found in self.models.values() for version in found]
        kept = [entry for version in versions for entry in version["files"].values()]
        database = [self.database["file"]] if self.database else []
        return [FileHash(**entry) for entry in [*kept, *self.others.values(), *database]]


@dataclass
class Report:
    """What a backup did."""

    snapshot: str
    versions: int = 0
    copied: int = 0
    """Files that were new."""
    copied_bytes: int = 0
    damaged: list[str] = field(default_factory=list)
    """Versions that could not be taken, and why."""


def backup(registry: ModelRegistry, folder: Path) -> Report:
    """Add a snapshot of the registry to a folder of backups.

    What is damaged is left out and reported; everything else is taken. Raises RegistryError when there is nothing.
    """
    with staging.locked(folder / ".lock"):
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(_Gone):
                return _Backup(registry, folder).run()
        raise RegistryError("versions were deleted again and again while they were backed up; try once more")


def snapshots(folder: Path) -> list[str]:
    """Return the times of the snapshots in a folder, the first one first."""
    return sorted(path.stem for path in (folder / "snapshots").glob("*.json"))


def read(folder: Path, at: str = "") -> Snapshot:
    """Return a snapshot, by its time or the beginning of it; the last one unless told.

    Raises RegistryError when there is none.
    """
    known = snapshots(folder)
    found = [at] if at in known else [name for name in known if name.startswith(at)]
    if not known:
        raise RegistryError(f"{folder} is no backup: it has no snapshots")
    if not found:
        near = nearest(at, known)
        hint = f" Did you mean {near}?" if near else ""
        raise RegistryError(f"{folder} has no snapshot of {at}; it has {listed(known)}.{hint}")
    path = folder / "snapshots" / f"{found[-1]}.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] > _FORMAT:
            raise RegistryError(f"{path} was written by a later LargeForge")
        return Snapshot(**content)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RegistryError(f"{path} is damaged: {error}") from error


def check(folder: Path, snapshot: Snapshot, meter: Meter) -> list[str]:
    """Read every file that a snapshot needs, and return what is damaged."""
    objects = Objects(folder / "objects")
    found = [objects.damage(entry, meter) for entry in {entry.sha256: entry for entry in snapshot.files}.values()]
    return [fault for fault in found if fault]


class _Gone(Exception):
    """A version was deleted after the snapshot of the database was taken."""


class _Backup:
    """One snapshot in the making; the caller holds the lock of the folder."""

    def __init__(self, registry: ModelRegistry, folder: Path):
        self._registry, self._folder = registry, folder
        self._objects = Objects(folder / "objects")
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        taken = len([name for name in snapshots(folder) if name.startswith(stamp)])
        self._report = Report(f"{stamp}-{taken}" if taken else stamp)
        self._meter = Meter(registry.watch, "backing up", 0)

    def run(self) -> Report:
        """Copy what is new, and write the snapshot last."""
        snapshot = Snapshot(self._report.snapshot, str(self._registry.database))
        with contextlib.ExitStack() as stack:
            source = self._registry.database
            if source.path is not None:
                frozen = self._frozen(source.path)
                stack.callback(frozen.unlink, missing_ok=True)
                source = Database(f"sqlite:///{frozen}")
                stack.callback(source.close)
            with source.reading() as client:
                self._describe(client, snapshot)
            if source.path is not None:
                snapshot.database = {"file": self._add(source.path), "root": self._registry.storage.root}
        if isinstance(self._registry.storage, LocalFolder):
            self._add_others(self._registry.storage.folder, snapshot)
        path = self._folder / "snapshots" / f"{snapshot.time}.json"
        artifacts.write_json(path, asdict(snapshot))
        staging.sync(path.parent)
        return self._report

    def _frozen(self, database: Path) -> Path:
        """Copy the database as it is at one instant; others may write to it."""
        if not database.is_file():
            raise RegistryError(f"nothing to back up: there is no registry at {database}")
        # A name of its own: MLflow keeps what it has opened, by name, also when the file is another one.
        frozen = self._folder / f".{self._report.snapshot}-{secrets.token_hex(4)}.db"
        with (
            contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as source,
            contextlib.closing(sqlite3.connect(frozen)) as target,
        ):
            source.backup(target)
        return frozen

    def _describe(self, client: Any, snapshot: Snapshot) -> None:
        snapshot.trail = [asdict(entry) for entry in audit.entries(client)]
        tags = {
            (version.name, int(version.version)): dict(version.tags)
            for version in every(client.search_model_versions, None)
        }
        for version in lookup.summaries(client, ""):
            try:
                kept = self._add_version(version)
            except RegistryError as error:
                if self._is_gone(version):
                    raise _Gone from error
                self._report.damaged.append(str(error))
                continue
            self._report.versions += 1
            own = tags[version.name, version.version]
            taken = {name: getattr(version, name) for name in ("notes", "created", "run_id", "source")}
            taken |= {"number": version.version, "tags": own, "aliases": list(version.aliases), "files": kept}
            snapshot.models.setdefault(version.name, []).append(taken)

    def _add_version(self, version: VersionSummary) -> dict[str, Any]:
        """Take the files of a version that are not taken yet, each against its hash."""
        storage = self._registry.storage
        if isinstance(storage, LocalFolder):
            path = storage.path(version)
            sheet = files.read_sheet(path / files.MANIFEST, reference=version.reference)
            if sheet.digest != version.digest:
                raise RegistryError(f"{version.reference} is damaged: its manifest is not the one that was registered")
        else:
            with self._registry.database.reading() as client:
                path = storage.fetch(client, version, self._registry.watch)
            sheet = files.read_sheet(path / files.MANIFEST, reference=version.reference)
        kept = {name: asdict(entry) for name, entry in sheet.files.items()}
        for name, entry in sheet.files.items():
            if not self._objects.has(entry):
                if not (path / name).is_file():
                    raise RegistryError(f"{version.reference} is damaged: {path / name} is missing")
                if self._copy(path / name) != entry:
                    raise RegistryError(f"{version.reference} is damaged: {path / name} is not what was registered")
        beside = {name: self._add(path / name) for name in files.BESIDE if (path / name).is_file()}
        return {**kept, **beside}

    def _is_gone(self, version: VersionSummary) -> bool:
        with self._registry.database.reading() as client:
            return all(found.version != version.version for found in lookup.summaries(client, version.name))

    def _add_others(self, folder: Path, snapshot: Snapshot) -> None:
        """Take what is no version's: files of tracked runs, which may still grow, as they are now."""
        of_versions = {version["run_id"] for found in snapshot.models.values() for version in found}
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if name.parts[0] in of_versions or name.parts[0].startswith(".") or path.is_symlink() or not path.is_file():
                continue
            with contextlib.suppress(FileNotFoundError):
                snapshot.others[name.as_posix()] = self._add(path)

    def _add(self, path: Path) -> dict[str, Any]:
        """Take a file unless its content is taken already."""
        entry = copying.hashed(path, self._meter)
        return asdict(entry if self._objects.has(entry) else self._copy(path))

    def _copy(self, path: Path) -> FileHash:
        entry = self._objects.add(path, self._meter)
        self._report.copied += 1
        self._report.copied_bytes += entry.size
        return entry


def record_of(version: dict[str, Any]) -> tuple[Any, dict[str, float]]:
    """Return lineage and metrics of a version in a snapshot."""
    own = version["tags"]
    lineage = records.lineage_from(json.loads(own[f"{records.OWN}lineage"]))
    return lineage, records.metrics_from(json.loads(own[f"{records.OWN}metrics"]))
