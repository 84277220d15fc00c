"""Where the files of versions are: a folder beside a local database, or MLflow's artifact store.

Both keep the files as the artifact `model` of the version's MLflow run, so that MLflow's own
pages and tools show them.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

from largeforge.errors import RegistryError
from largeforge.registry import copying, files, staging

if TYPE_CHECKING:
    from largeforge.recipe.schema import Registry
    from largeforge.registry.copying import FileHash, Watch
    from largeforge.registry.records import VersionSummary

ARTIFACT = "model"
"""Name of the folder among the artifacts of a run."""
_MOST_NAMED = 5


class Storage(Protocol):
    """What the registry asks of a place for files."""

    folder: Path
    """Local folder; new files are staged inside it."""
    root: str | None
    """Artifact location of new MLflow runs; None means the server's own."""

    def publish(self, client: Any, run_id: str, staged: Path, key: str) -> Path:
        """Make staged files the artifact of a run, and return their folder on this machine.

        `key` names a local copy. Raises RegistryError when not all of them arrived.
        """

    def restore(self, client: Any, version: VersionSummary, staged: Path) -> Path:
        """Return the folder of a version, after putting staged files in place of damaged ones."""

    def fetch(self, client: Any, version: VersionSummary, watch: Watch | None = None) -> Path:
        """Return the folder of a version's verified files.

        Raises RegistryError that names each file that is missing or altered.
        """

    def verify(self, client: Any, version: VersionSummary, watch: Watch | None = None) -> None:
        """Read every byte of what is kept, past any copy on this machine.

        Raises RegistryError that names each file that is missing or altered.
        """

    def check(self, client: Any, version: VersionSummary) -> None:
        """Check what can be known without reading the files: that all are there, with their sizes.

        Raises RegistryError that names each file that is not.
        """

    def read(self, client: Any, version: VersionSummary, name: str) -> bytes | None:
        """Return a small file of a version; None when there is no such file."""

    def discard(self, client: Any, run_id: str, key: str = "") -> None:
        """Remove the files of a run that is no version."""


def storage(settings: Registry) -> Storage:
    """Choose by the settings: files are local when both the database and the folder are."""
    if "://" in settings.artifacts:
        return ArtifactStore(Path("registry/cache").absolute(), settings.artifacts)
    folder = Path(settings.artifacts).expanduser().absolute()
    if settings.uri.startswith(("http://", "https://")):
        return ArtifactStore(folder, None)
    return LocalFolder(folder)


class LocalFolder:
    """Files in `<folder>/<run>/artifacts/model`, which is MLflow's own layout."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.root: str | None = folder.as_uri()

    def publish(self, client: Any, run_id: str, staged: Path, key: str) -> Path:
        """Rename the staged folder into the run's folder."""
        path = self._inside(run_id)
        staging.place(staged, path)
        staging.sync(self.folder / run_id)
        staging.sync(self.folder)
        return path

    def restore(self, client: Any, version: VersionSummary, staged: Path) -> Path:
        """Replace the version's folder unless it verifies."""
        path = self.path(version)
        _place_unless_intact(staged, path, version.digest)
        return path

    def fetch(self, client: Any, version: VersionSummary, watch: Watch | None = None) -> Path:
        """Verify the version's folder."""
        path = self.path(version)
        files.verify(path, version.digest, reference=version.reference, watch=watch)
        return path

    def verify(self, client: Any, version: VersionSummary, watch: Watch | None = None) -> None:
        """Verify the version's folder."""
        self.fetch(client, version, watch)

    def check(self, client: Any, version: VersionSummary) -> None:
        """Look at the sizes of the files."""
        files.check_sizes(self.path(version), version.digest, reference=version.reference)

    def read(self, client: Any, version: VersionSummary, name: str) -> bytes | None:
        """Read the file."""
        path = self.path(version) / name
        return path.read_bytes() if path.is_file() else None

    def discard(self, client: Any, run_id: str, key: str = "") -> None:
        """Remove the run's folder."""
        shutil.rmtree(self.folder / run_id, ignore_errors=True)

    def path(self, version: VersionSummary) -> Path:
        """Return the folder of a version; below the present folder first, so that a registry may be moved."""
        here = self._inside(version.run_id)
        recorded = Path(url2pathname(urlsplit(version.source).path))
        return recorded if recorded.is_dir() and not here.is_dir() else here

    def _inside(self, run_id: str) -> Path:
        return self.folder / run_id / "artifacts" / ARTIFACT


class ArtifactStore:
    """Files behind MLflow (a server or an object store), with copies in `<folder>/<seal>`."""

    def __init__(self, folder: Path, root: str | None):
        self.folder = folder
        self.root = root

    def publish(self, client: Any, run_id: str, staged: Path, key: str) -> Path:
        """Upload the staged folder, look at what arrived, and keep it as the local copy."""
        client.log_artifacts(run_id, str(staged), ARTIFACT)
        if missing := _unlike(staged, _sizes(client, run_id)):
            raise RegistryError(f"the upload did not arrive whole, nothing was registered: {_told(missing)}. Try again")
        return self._keep(staged, key)

    def restore(self, client: Any, version: VersionSummary, staged: Path) -> Path:
        """Upload what the store has lost or damaged, and keep the staged folder as the local copy.

        Everything is read back for this: whoever registers the same files again may do it to mend the store.
        """
        sheet = files.read_sheet(staged / files.MANIFEST, reference=version.reference)
        there = _sizes(client, version.run_id)
        for name, entry in sheet.files.items():
            if there.get(name) != entry.size or self._stored(client, version, name) != entry:
                parent = Path(ARTIFACT, name).parent.as_posix()
                client.log_artifact(version.run_id, str(staged / name), parent)
        if files.MANIFEST not in there:
            client.log_artifact(version.run_id, str(staged / files.MANIFEST), ARTIFACT)
        return self._keep(staged, _key(version))

    def _stored(self, client: Any, version: VersionSummary, name: str) -> FileHash:
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            found = client.download_artifacts(version.run_id, f"{ARTIFACT}/{name}", dst_path=folder)
            return copying.hashed(Path(found), copying.Meter(None, "", 0))

    def fetch(self, client: Any, version: VersionSummary, watch: Watch | None = None) -> Path:
        """Verify the local copy, or download it when there is none that verifies."""
        kept = self.folder / _key(version)
        if _is_intact(kept, version.digest, watch):
            return kept
        with staging.staging(self.folder) as staged:
            return self._keep(self._download(client, version, staged, watch), _key(version))

    def verify(self, client: Any, version: VersionSummary, watch: Watch | None = None) -> None:
        """Download everything anew and verify it."""
        with staging.staging(self.folder) as staged:
            self._download(client, version, staged, watch)

    def check(self, client: Any, version: VersionSummary) -> None:
        """Compare the sizes that the store tells with those of the manifest."""
        content = self.read(client, version, files.MANIFEST)
        if content is None:
            raise RegistryError(f"{version.reference} is damaged: the store has no {files.MANIFEST} of it")
        sheet = files.parse_sheet(content, source=files.MANIFEST, reference=version.reference)
        if sheet.digest != version.digest:
            raise RegistryError(f"{version.reference} is damaged: {files.MANIFEST} is not the one that was registered")
        there = _sizes(client, version.run_id)
        wrong = {
            name: f"{there[name]} bytes instead of {entry.size}" if name in there else "missing"
            for name, entry in sheet.files.items()
            if there.get(name) != entry.size
        }
        if wrong:
            raise RegistryError(f"{version.reference} is damaged in its store: {_told(wrong)}. {_MEND}")

    def read(self, client: Any, version: VersionSummary, name: str) -> bytes | None:
        """Download the file, from the local copy where there is one."""
        kept = self.folder / _key(version) / name
        if kept.is_file():
            return kept.read_bytes()
        if name not in {Path(entry.path).name for entry in client.list_artifacts(version.run_id, ARTIFACT)}:
            return None
        with tempfile.TemporaryDirectory() as folder:
            found = client.download_artifacts(version.run_id, f"{ARTIFACT}/{name}", dst_path=folder)
            return Path(found).read_bytes()

    def discard(self, client: Any, run_id: str, key: str = "") -> None:
        """Delete the run's files in the store, and the local copy that `key` names."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        where = client.get_run(run_id).info.artifact_uri
        if client.list_artifacts(run_id, ARTIFACT):
            get_artifact_repository(where, tracking_uri=client.tracking_uri).delete_artifacts(ARTIFACT)
        if key:
            shutil.rmtree(self.folder / key, ignore_errors=True)

    def _download(self, client: Any, version: VersionSummary, staged: Path, watch: Watch | None) -> Path:
        staged.rmdir()
        if watch:
            watch(f"downloading {version.reference}", 0, 0)
        if not client.list_artifacts(version.run_id, ARTIFACT):
            raise RegistryError(f"{version.reference} is damaged: its store has none of its files. {_MEND}")
        fetched = Path(client.download_artifacts(version.run_id, ARTIFACT, dst_path=str(staged.parent)))
        files.verify(fetched, version.digest, reference=version.reference, watch=watch)
        return fetched

    def _keep(self, staged: Path, key: str) -> Path:
        """Make `staged` the local copy, leaving alone one that others may be reading."""
        with staging.locked(self.folder / ".lock"):
            digest = files.read_sheet(staged / files.MANIFEST, reference=str(staged)).digest
            _place_unless_intact(staged, self.folder / key, digest)
        return self.folder / key


_MEND = "Register the same files again to restore it, or choose another version."


def _key(version: VersionSummary) -> str:
    """Return the name of the local copy; the seal, since equal files may come from two runs."""
    return version.seal or version.digest


def _sizes(client: Any, run_id: str) -> dict[str, int]:
    """Return the size of each file that the store has of a run, by its name within the model."""
    found: dict[str, int] = {}
    folders = [ARTIFACT]
    while folders:
        for entry in client.list_artifacts(run_id, folders.pop()):
            if entry.is_dir:
                folders.append(entry.path)
            else:
                found[entry.path.removeprefix(f"{ARTIFACT}/")] = int(entry.file_size or 0)
    return found


def _unlike(folder: Path, there: dict[str, int]) -> dict[str, str]:
    """Return the files of a folder that a store does not have with their size, and what is wrong."""
    here = {name: (folder / name).stat().st_size for name in files.names_in(folder)}
    return {
        name: f"{there[name]} bytes instead of {size}" if name in there else "missing"
        for name, size in here.items()
        if there.get(name) != size
    }


def _told(wrong: dict[str, str]) -> str:
    named = [f"{name} ({what})" for name, what in wrong.items()]
    more = f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
    return f"{', '.join(named[:_MOST_NAMED])}{more}"


def _place_unless_intact(staged: Path, target: Path, digest: str) -> None:
    if not _is_intact(target, digest):
        staging.place(staged, target)


def _is_intact(folder: Path, digest: str, watch: Watch | None = None) -> bool:
    try:
        files.verify(folder, digest, reference=folder.name[:12], watch=watch)
    except RegistryError:
        return False
    return True
