"""What identifies the data behind a path: for locks, fingerprints, and comparisons."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from largeforge.artifacts import digest
from largeforge.cache import cached_sha256
from largeforge.errors import DataError
from largeforge.files import cached, local, remote
from largeforge.files.paths import DataFile, is_remote, labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def as_list(path: str | Sequence[str]) -> list[str]:
    """Return the paths of a key that takes one or several."""
    return [path] if isinstance(path, str) else list(path)


def identities(paths: Iterable[str]) -> dict[str, str]:
    """Return what each path's data is known by; those that are missing or cannot be reached are left out.

    Of one file it is its sha256, of several a digest of names and sha256; of what is remote, its version.
    """
    found = {}
    for path in sorted(set(paths)):
        try:
            if identity := _identity(path):
                found[path] = identity
        except (DataError, OSError):
            continue  # the check before the run, and the stage, say why
    return found


def local_files(path: str | Sequence[str]) -> list[DataFile] | None:
    """Return the files of a key as they lie here, without downloading; None where some are not here yet.

    Raises DataError when a folder, pattern or store has none.
    """
    found: list[DataFile] = []
    for each in as_list(path):
        files = cached.here(each) if is_remote(each) else of_local(each)
        if files is None:
            return None
        found += files
    return named(found)


def size_bytes(path: str) -> int:
    """Return the bytes of all files of a path, also of remote ones that are not here yet.

    Raises DataError when it cannot be told.
    """
    if not is_remote(path):
        return sum(file.path.stat().st_size for file in of_local(path) if file.path.is_file())
    version = remote.version_of(path)
    return sum(file.size for file in remote.kept_files(path, version) or ())


def of_local(path: str) -> list[DataFile]:
    """Return the files that a local path means, each called by its whole path."""
    return [DataFile(file, file.as_posix()) for file in local.expand(path)]


def named(files: Sequence[DataFile]) -> list[DataFile]:
    """Return files with the shortest labels that tell all of them apart."""
    names = labels([file.label for file in files])
    return [replace(file, label=name) for file, name in zip(files, names, strict=True)]


def _identity(path: str) -> str:
    if is_remote(path):
        return remote.version_of(path).name
    files = local.expand(path)
    if len(files) == 1:
        return cached_sha256(files[0]) if files[0].is_file() else ""
    names = labels([file.as_posix() for file in files])
    return digest({name: cached_sha256(file) for name, file in zip(names, files, strict=True)})
