"""Files of a version: copied and hashed in one pass, put in place by one rename, verified later.

The manifest `largeforge.json` lies beside the files. It protects against accidents (a broken
disk, a half copy, a stray file that a loader would pick up), not against someone who may write
to the registry.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge import artifacts
from largeforge.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from largeforge.registry.records import Kind

MANIFEST = "largeforge.json"
LOCK = "largeforge.lock.json"
"""Lock of the run that made the version; like the manifest, no part of the model's identity."""
CARD = "README.md"
"""What people read of the version; no part of its identity either: the same weights may be judged twice."""
_BESIDE = (MANIFEST, LOCK, CARD)

_INCOMING = ".incoming-"
_CHUNK_BYTES = 4 * 1024 * 1024
_THREADS = 4
"""Files hashed at once; hashlib and file reads release the interpreter's lock."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileHash:
    """Identity of one file."""

    sha256: str
    size: int


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the advisory lock `path`, waiting for the other threads and processes that hold it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _try_lock(descriptor):
            _log.info("waiting for another registration to release %s", path)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """Give an empty folder inside `folder` to prepare files in; it is removed at the end.

    A process that is killed leaves its folder behind without its lock; the next one removes it.
    """
    with locked(folder / ".lock"):
        _sweep(folder)
        incoming = Path(tempfile.mkdtemp(prefix=_INCOMING, dir=folder))
        descriptor = os.open(incoming / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        staged = incoming / "model"
        staged.mkdir()
        yield staged
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
        os.close(descriptor)


def copy_hashed(source: Path, target: Path) -> dict[str, FileHash]:
    """Copy every file below `source` to `target`, durably, and return what was written by relative path.

    Links to files are followed; an older manifest, lock and card are left out. Raises RegistryError when there
    is nothing to copy, or a linked folder (which might lead anywhere, or round in a circle).
    """
    names = [name for name in _names(source) if name not in _BESIDE]
    if not names:
        raise RegistryError(f"nothing to register: {source} holds no files")
    for parent in sorted({(target / name).parent for name in names}):
        parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(_THREADS) as pool:
        hashes = list(pool.map(lambda name: _copy(source / name, target / name), names))
    for parent in {(target / name).parent for name in names} | {target}:
        sync(parent)
    return dict(zip(names, hashes, strict=True))


def content_digest(kind: Kind, files: dict[str, FileHash]) -> str:
    """Return the identity of a model: the same kind and the same files, wherever they came from."""
    return artifacts.digest({"kind": kind, "files": {name: asdict(entry) for name, entry in files.items()}})


def write_manifest(
    folder: Path,
    kind: Kind,
    files: dict[str, FileHash],
    about: dict[str, Any],
    lock: Mapping[str, Any] | None = None,
    card: str = "",
) -> None:
    """Write `largeforge.json`, lock and card beside it; `about` holds what else is known (lineage, metrics)."""
    listed = {name: asdict(entry) for name, entry in files.items()}
    if lock:
        artifacts.write_json(folder / LOCK, dict(lock))
    if card:
        artifacts.write_text(folder / CARD, card)
    artifacts.write_json(folder / MANIFEST, {"kind": kind, "files": listed, **about})
    sync(folder)


def card_of(folder: Path) -> str:
    """Return the card that lies with files; empty without one."""
    path = folder / CARD
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def drop_lock(folder: Path, *, unless: str) -> None:
    """Remove a staged lock with another digest: the version that has these files came from another run."""
    path = folder / LOCK
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")).get("digest") != unless:
        path.unlink()


def verify(folder: Path, digest: str, *, reference: str) -> None:
    """Check every file of a version against its manifest, and the manifest against `digest`.

    Raises RegistryError that names each file that is missing, altered or not listed.
    """
    files = _read_manifest(folder, digest, reference)
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(lambda name: _fault(folder / name, files[name]), files))
    faults = [fault for fault in found if fault]
    known = {*files, *_BESIDE}
    faults += [f"{folder / name} is not in its manifest" for name in _names(folder) if name not in known]
    if faults:
        hint = "Register the same files again to restore it, or choose another version."
        raise RegistryError(f"{reference} is damaged: {'; '.join(faults)}. {hint}")


def place(staged: Path, target: Path) -> None:
    """Rename a folder from `staging` to where it belongs; what was there goes away with the staging."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        target.rename(staged.parent / "replaced")
    staged.rename(target)
    sync(target.parent)


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _names(folder: Path) -> list[str]:
    names = []
    for parent, folders, files in os.walk(folder):
        for linked in (Path(parent) / name for name in folders):
            if linked.is_symlink():
                raise RegistryError(f"{linked} is a link to a folder; put the files themselves there")
        names += [(Path(parent) / name).relative_to(folder).as_posix() for name in files]
    return sorted(names)


def _copy(source: Path, target: Path) -> FileHash:
    """Hash the very bytes that are written, so that a source that changes meanwhile cannot mislead."""
    sha256 = hashlib.sha256()
    size = 0
    with source.open("rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(_CHUNK_BYTES):
            sha256.update(chunk)
            size += writer.write(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    return FileHash(sha256.hexdigest(), size)


def _read_manifest(folder: Path, digest: str, reference: str) -> dict[str, FileHash]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        files = {name: FileHash(**entry) for name, entry in manifest["files"].items()}
        intact = content_digest(manifest["kind"], files) == digest
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RegistryError(f"{reference} is damaged: {path} cannot be read ({error})") from error
    if not intact:
        raise RegistryError(f"{reference} is damaged: {path} is not the manifest that was registered")
    return files


def _fault(path: Path, expected: FileHash) -> str:
    try:
        size = path.stat().st_size
        if size != expected.size:
            return f"{path} has {size} bytes instead of {expected.size}"
        found = artifacts.file_sha256(path)
    except FileNotFoundError:
        return f"{path} is missing"
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
    return "" if found == expected.sha256 else f"{path} has sha256 {found} instead of {expected.sha256}"


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sweep(folder: Path) -> None:
    """Remove the staging folders of dead processes: those whose lock nobody holds."""
    for incoming in folder.glob(f"{_INCOMING}*"):
        descriptor = os.open(incoming / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if _try_lock(descriptor):
                shutil.rmtree(incoming, ignore_errors=True)
        finally:
            os.close(descriptor)
