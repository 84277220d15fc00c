"""What was tokenized before, by content: Arrow files that training processes map into memory.

An entry is a folder named after the digest of its key. The Arrow file is written under another name, flushed to the
disk and renamed; `entry.json` with its sha256 comes last. An entry is used when its key is the very same and the
file has its hash; everything else is made again. One process makes an entry and others that want it wait for its
lock, so that all ranks of a training, and trials side by side, tokenize once; the kernel frees the lock of a process
that dies.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from largeforge import cache
from largeforge.artifacts import digest, write_json
from largeforge.errors import StageError
from largeforge.os_errors import explain_os_error, mebibytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DATA = "data.arrow"
ENTRY = "entry.json"
KEPT_DAYS = 30
"""An entry that was not used for so long is removed when another one is made."""
SHARE_OF_DISK = 0.1
"""Share of the file system that the store may take; the entries that were used last are kept."""


class Hashed:
    """A binary file that knows the hash of what was written to it."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self._digest = hashlib.sha256()

    def write(self, data: Any) -> int:
        """Write bytes; return how many."""
        self._digest.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        """Pass on what is buffered."""
        self._file.flush()

    @property
    def sha256(self) -> str:
        """Hash of all that was written."""
        return self._digest.hexdigest()

    @property
    def closed(self) -> bool:
        """Whether nothing more can be written."""
        return self._file.closed


@dataclass(frozen=True)
class Entry:
    """One tokenized file."""

    data: Path
    about: dict[str, Any]
    """What the maker had to say: plain data."""


def store_folder(work: Path, *, needed_bytes: int) -> Path:
    """Return where entries go: to the user's cache, or to `work` when that cannot be written or is too full.

    Raises StageError when neither has the room.
    """
    base = cache.folder()
    folders = [base / "tokens"] if base else []
    free: dict[Path, int] = {}
    for folder in [*folders, work / "tokens"]:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            free[folder] = shutil.disk_usage(folder).free
        except OSError:
            continue
        if free[folder] > needed_bytes and os.access(folder, os.W_OK):
            return folder
    said = ", ".join(f"{mebibytes(size)} in {folder}" for folder, size in free.items()) or f"no place in {work}"
    raise StageError(f"tokenized rows need about {mebibytes(needed_bytes)}, and there is {said}")


def entry(folder: Path, key: Any, make: Callable[[Hashed], dict[str, Any]], *, into: Path) -> Entry:
    """Return the entry of a key, which `make` writes if there is none that can be trusted.

    The file gets a name below `into` too, so that it stays whatever happens to the store. `make` writes the Arrow
    file and returns plain data about it. Raises what it raises, and StageError when the disk is full.
    """
    place = folder / digest(key)[:40]
    with _locked(place.with_suffix(".lock")):
        found = _trusted(place, key)
        if found is None:
            found = _made(place, key, make)
            _tidy(folder, keep=place)
        return Entry(_linked(found.data, into), found.about)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _trusted(place: Path, key: Any) -> Entry | None:
    try:
        found = json.loads((place / ENTRY).read_text(encoding="utf-8"))
        if found["key"] != key or cache.cached_sha256(place / DATA) != found["sha256"]:
            return None
        os.utime(place / ENTRY)
        return Entry(place / DATA, found["about"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _made(place: Path, key: Any, make: Callable[[Hashed], dict[str, Any]]) -> Entry:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    temporary = place / f"{DATA}.part"
    try:
        with temporary.open("wb") as file:
            hashed = Hashed(file)
            about = make(hashed)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(place / DATA)
        write_json(place / ENTRY, {"key": key, "sha256": hashed.sha256, "about": about})
    except OSError as error:
        shutil.rmtree(place, ignore_errors=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StageError(explain_os_error(error, temporary)) from error
        raise
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    return Entry(place / DATA, about)


def _linked(data: Path, into: Path) -> Path:
    """Return a name of an entry's file in a run's own folder, where `datasets` puts what it derives from it."""
    target = into / data.parent.name / DATA
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and target.samefile(data):
        return target
    target.unlink(missing_ok=True)
    for derived in target.parent.glob("cache-*.arrow"):
        derived.unlink()
    try:
        os.link(data, target)
    except FileExistsError:
        pass  # another rank was faster
    except OSError:
        with suppress(FileExistsError):
            target.symlink_to(data)
    return target


def _tidy(folder: Path, *, keep: Path) -> None:
    """Remove entries that were not used for long, and the oldest ones while all of them take too much."""
    limit = SHARE_OF_DISK * shutil.disk_usage(folder).total
    entries = []
    for place in folder.iterdir():
        with suppress(OSError):
            if place.is_dir():
                sealed = (place / ENTRY).is_file()  # one that is not may be in the making: its lock tells
                used = (place / ENTRY if sealed else place).stat().st_mtime
                entries.append((used, sum(file.stat().st_size for file in place.iterdir()), place))
    total = sum(size for _, size, _ in entries)
    for used, size, place in sorted(entries):
        if place == keep or (total <= limit and time.time() - used <= KEPT_DAYS * 86400):
            continue
        with suppress(OSError), place.with_suffix(".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(place)
            total -= size
