"""Where the files of versions are: a folder beside a local database, or MLflow's artifact store.

Both keep the files as the artifact `model` of the version's MLflow run, so that MLflow's own
pages and tools show them.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

from largeforge.errors import RegistryError
from largeforge.registry import files

if TYPE_CHECKING:
    from largeforge.recipe.schema import Registry
    from largeforge.registry.records import VersionSummary

ARTIFACT = "model"
"""Name of the folder among the artifacts of a run."""


class Storage(Protocol):
    """What the registry asks of a place for files."""

    folder: Path
    """Local folder; new files are staged inside it."""
    root: str | None
    """Artifact location of new MLflow runs; None means the server's own."""

    def publish(self, client: Any, run_id: str, staged: Path, digest: str) -> Path:
        """Make staged files the artifact of a run, and return their folder on this machine."""

    def restore(self, version: VersionSummary, staged: Path) -> Path:
        """Return the folder of a version, after putting staged files in place of damaged ones."""

    def fetch(self, client: Any, version: VersionSummary) -> Path:
        """Return the folder of a version's verified files.

        Raises RegistryError that names each file that is missing or altered.
        """

    def discard(self, run_id: str) -> None:
        """Remove the files of a run that never became a version."""


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

    def publish(self, client: Any, run_id: str, staged: Path, digest: str) -> Path:
        """Rename the staged folder into the run's folder."""
        path = self._inside(run_id)
        files.place(staged, path)
        files.sync(self.folder / run_id)
        files.sync(self.folder)
        return path

    def restore(self, version: VersionSummary, staged: Path) -> Path:
        """Replace the version's folder unless it verifies."""
        path = self._path(version)
        _place_unless_intact(staged, path, version.digest)
        return path

    def fetch(self, client: Any, version: VersionSummary) -> Path:
        """Verify the version's folder."""
        path = self._path(version)
        files.verify(path, version.digest, reference=version.reference)
        return path

    def discard(self, run_id: str) -> None:
        """Remove the run's folder."""
        shutil.rmtree(self.folder / run_id, ignore_errors=True)

    def _inside(self, run_id: str) -> Path:
        return self.folder / run_id / "artifacts" / ARTIFACT

    def _path(self, version: VersionSummary) -> Path:
        """Look below the present folder first, so that a registry may be moved as a whole."""
        here = self._inside(version.run_id)
        recorded = Path(url2pathname(urlsplit(version.source).path))
        return recorded if recorded.is_dir() and not here.is_dir() else here


class ArtifactStore:
    """Files behind MLflow (a server or an object store), with copies in `<folder>/<digest>`."""

    def __init__(self, folder: Path, root: str | None):
        self.folder = folder
        self.root = root

    def publish(self, client: Any, run_id: str, staged: Path, digest: str) -> Path:
        """Upload the staged folder, and keep it as the local copy."""
        client.log_artifacts(run_id, str(staged), ARTIFACT)
        return self._keep(staged, digest)

    def restore(self, version: VersionSummary, staged: Path) -> Path:
        """Keep the staged folder as the local copy; what the store holds is left as it is."""
        return self._keep(staged, version.digest)

    def fetch(self, client: Any, version: VersionSummary) -> Path:
        """Verify the local copy, or download it when there is none that verifies."""
        kept = self.folder / version.digest
        if _is_intact(kept, version.digest):
            return kept
        with files.staging(self.folder) as staged:
            staged.rmdir()
            fetched = Path(client.download_artifacts(version.run_id, ARTIFACT, dst_path=str(staged.parent)))
            files.verify(fetched, version.digest, reference=version.reference)
            return self._keep(fetched, version.digest)

    def discard(self, run_id: str) -> None:
        """Leave the store alone: deleting the run is all that MLflow offers."""

    def _keep(self, staged: Path, digest: str) -> Path:
        """Make `staged` the local copy, leaving alone one that others may be reading."""
        with files.locked(self.folder / ".lock"):
            _place_unless_intact(staged, self.folder / digest, digest)
        return self.folder / digest


def _place_unless_intact(staged: Path, target: Path, digest: str) -> None:
    if not _is_intact(target, digest):
        files.place(staged, target)


def _is_intact(folder: Path, digest: str) -> bool:
    try:
        files.verify(folder, digest, reference=str(folder))
    except RegistryError:
        return False
    return True
