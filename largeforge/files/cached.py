"""Local copies of remote files, below the cache folder by address and version.

A copy appears under its name only when it is whole. Copies are never changed and may be deleted at
any time. Two processes that want one file download it once.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from typing import TYPE_CHECKING, Any

from largeforge import cache
from largeforge.artifacts import digest
from largeforge.errors import DataError
from largeforge.files import remote
from largeforge.files.paths import DataFile
from largeforge.os_errors import explain_os_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from largeforge.files.remote import RemoteFile, Version

ATTEMPTS = 3
CHUNK_BYTES = 8 * 2**20
_COMMIT = re.compile(r"(?<=@)[0-9a-f]{40}(?=/)")


def fetch(
    url: str, *, progress: Callable[[int, int], None] | None = None, pause: Callable[[float], None] = time.sleep
) -> tuple[list[DataFile], Version]:
    """Return local copies of the files that an address means now; `progress` is told bytes done and of all.

    Raises DataError when there are none, and when they can neither be reached nor are here.
    """
    version = remote.version_of(url)
    files = remote.files_of(url, version)
    total, before = sum(file.size for file in files), 0

    def told(size: int) -> None:
        if progress is not None:
            progress(before + size, total)

    for file in files:
        if not _place(file).exists():
            _download(file, _place(file), pause=pause, told=told)
        before += file.size
    return _copies(files), version


def here(url: str) -> list[DataFile] | None:
    """Return the copies of an address without downloading anything; None where some are missing.

    Raises DataError when the store says that there are no such files.
    """
    version = remote.version_of(url)
    files = remote.kept_files(url, version)
    if files is None:
        return None
    return _copies(files) if all(_place(file).exists() for file in files) else None


def _copies(files: list[RemoteFile]) -> list[DataFile]:
    return [DataFile(_place(file), file.url.partition("://")[2].partition("?")[0], file.url) for file in files]


def _place(file: RemoteFile) -> Path:
    base = cache.folder()
    if base is None:
        raise DataError(f"{file.url}: there is no folder for copies of remote data; set XDG_CACHE_HOME")
    name = file.url.partition("?")[0].rstrip("/").rpartition("/")[2]
    url = _COMMIT.sub("", file.url)  # a file that two commits share is copied once
    return base / "data" / digest([url, file.version])[:40] / (name or "rows")


def _download(file: RemoteFile, path: Path, *, pause: Callable[[float], None], told: Callable[[int], object]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (path.parent / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if path.exists():  # another process was faster
                return
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    return _copy(file, path, told)
                except remote.Unreachable:
                    if attempt == ATTEMPTS:
                        raise
                    pause(2.0**attempt)
    except OSError as error:
        raise DataError(explain_os_error(error, path)) from error


def _copy(file: RemoteFile, path: Path, told: Callable[[int], object]) -> None:
    system, place = remote.opened(file.url)
    part = path.with_name(f"{path.name}.part")
    size = 0
    with part.open("wb") as output:
        for chunk in _chunks(file, system, place):
            output.write(chunk)
            size += len(chunk)
            told(size)
        output.flush()
        os.fsync(output.fileno())
    if file.size and size != file.size:
        raise remote.Unreachable(f"{file.url}: {size} of {file.size} bytes arrived")
    part.replace(path)


def _chunks(file: RemoteFile, system: Any, place: str) -> Iterator[bytes]:
    """Yield the content of a remote file; what a library raises becomes an error in a user's words."""
    try:
        with system.open(place, "rb") as source:
            while chunk := source.read(CHUNK_BYTES):
                yield chunk
    except Exception as error:  # each library has errors of its own
        raise remote.explained(file.url, error) from error
