"""Copy and hash files of any size: in pieces, never as a whole in memory, and never written twice.

Where the file system can share blocks (btrfs, XFS, bcachefs) a copy is a clone that costs no space, and only the
hash reads it; elsewhere the bytes that are written are hashed on their way. A clone, unlike a hard link, does not
change when somebody writes into the original.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHUNK_BYTES = 4 * 1024 * 1024
_SIDE_BY_SIDE_BYTES = 16 * CHUNK_BYTES
"""Files from this size on are hashed by another thread than the one that writes."""
_FICLONE = 0x40049409
"""ioctl of linux/fs.h: make the file share the blocks of another one."""


@dataclass(frozen=True)
class FileHash:
    """Identity of one file."""

    sha256: str
    size: int


class Watch(Protocol):
    """Is told how far work on files has come."""

    def __call__(self, text: str, done: int, total: int) -> None:
        """Hear that `done` of `total` bytes are done of what `text` says."""


class Meter:
    """Adds up the bytes of several threads and tells a watch."""

    def __init__(self, watch: Watch | None, text: str, total: int):
        self._watch, self._text, self._total = watch, text, total
        self._done = 0
        self._lock = threading.Lock()
        self.add(0)

    def add(self, size: int) -> None:
        """Count bytes that are done."""
        if self._watch is None:
            return
        with self._lock:
            self._done += size
            self._watch(self._text, self._done, self._total)


def copy(source: Path, target: Path, meter: Meter) -> FileHash:
    """Copy a file durably; the hash is that of the very bytes that were written."""
    with source.open("rb") as reader, target.open("w+b") as writer:
        found = _read(writer, meter) if _cloned(reader, writer) else _written(reader, writer, meter)
        writer.flush()
        os.fsync(writer.fileno())
    return found


def write(reader: BinaryIO, target: Path, meter: Meter) -> FileHash:
    """Write what a stream holds to a file durably, and return what was written."""
    with target.open("wb") as writer:
        found = _written(reader, writer, meter)
        writer.flush()
        os.fsync(writer.fileno())
    return found


def hashed(path: Path, meter: Meter) -> FileHash:
    """Return the identity of a file."""
    with path.open("rb") as reader:
        return _read(reader, meter)


def drained(reader: BinaryIO, meter: Meter) -> FileHash:
    """Read a stream to its end and return what it held."""
    sha256, size = hashlib.sha256(), 0
    for chunk in _chunks(reader):
        sha256.update(chunk)
        size += len(chunk)
        meter.add(len(chunk))
    return FileHash(sha256.hexdigest(), size)


def _cloned(reader: BinaryIO, writer: BinaryIO) -> bool:
    try:
        fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
    except OSError:
        return False
    return True


def _read(reader: BinaryIO, meter: Meter) -> FileHash:
    sha256, size = hashlib.sha256(), 0
    buffer = memoryview(bytearray(CHUNK_BYTES))
    while count := reader.readinto(buffer):  # type: ignore[attr-defined]
        sha256.update(buffer[:count])
        size += count
        meter.add(count)
    return FileHash(sha256.hexdigest(), size)


def _written(reader: BinaryIO, writer: BinaryIO, meter: Meter) -> FileHash:
    sha256, size = hashlib.sha256(), 0
    with contextlib.ExitStack() as stack:
        aside = None
        for chunk in _chunks(reader):
            if aside is None and size >= _SIDE_BY_SIDE_BYTES:
                aside = stack.enter_context(ThreadPoolExecutor(1))
            if aside is None:
                sha256.update(chunk)
                size += writer.write(chunk)
            else:
                hashing = aside.submit(sha256.update, chunk)
                size += writer.write(chunk)
                hashing.result()
            meter.add(len(chunk))
    return FileHash(sha256.hexdigest(), size)


def _chunks(reader: BinaryIO) -> Iterator[bytes]:
    while chunk := reader.read(CHUNK_BYTES):
        yield chunk
