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
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from concurrent.futures import Future
    from io import FileIO
    from pathlib import Path

CHUNK_BYTES = 1024 * 1024
"""Fits into a core's cache: pieces of 4 MiB were copied at a third of the speed (docs/benchmarks.md)."""
_SIDE_BY_SIDE_BYTES = 64 * CHUNK_BYTES
"""Files are hashed from here on by another thread than the one that writes."""
_FICLONE = 0x40049409
"""ioctl of linux/fs.h: make the file share the blocks of another one."""


@dataclass(frozen=True)
class FileHash:
    """Identity of one file."""

    sha256: str
    size: int


class _Reader(Protocol):
    """A file without a buffer of its own, or a stream."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill a buffer and return how much was read."""


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
    with source.open("rb", buffering=0) as reader, target.open("w+b", buffering=0) as writer:
        found = _read(writer, meter) if _cloned(reader, writer) else _written(reader, writer, meter)
        os.fsync(writer.fileno())
    return found


def write(reader: _Reader, target: Path, meter: Meter) -> FileHash:
    """Write what a stream holds to a file durably, and return what was written."""
    with target.open("wb", buffering=0) as writer:
        found = _written(reader, writer, meter)
        os.fsync(writer.fileno())
    return found


def hashed(path: Path, meter: Meter) -> FileHash:
    """Return the identity of a file."""
    with path.open("rb", buffering=0) as reader:
        return _read(reader, meter)


def drained(reader: _Reader, meter: Meter) -> FileHash:
    """Read a stream to its end and return what it held."""
    return _read(reader, meter)


def _cloned(reader: FileIO, writer: FileIO) -> bool:
    try:
        fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
    except OSError:
        return False
    return True


def _read(reader: _Reader, meter: Meter) -> FileHash:
    sha256, size = hashlib.sha256(), 0
    buffer = memoryview(bytearray(CHUNK_BYTES))
    while count := reader.readinto(buffer):
        sha256.update(buffer[:count])
        size += count
        meter.add(count)
    return FileHash(sha256.hexdigest(), size)


def _written(reader: _Reader, writer: FileIO, meter: Meter) -> FileHash:
    """Copy with two buffers: while one is hashed the other is read and written."""
    sha256, size = hashlib.sha256(), 0
    buffers = [memoryview(bytearray(CHUNK_BYTES)) for _ in range(2)]
    hashing: Future[None] | None = None
    with contextlib.ExitStack() as stack:
        aside = None
        while count := reader.readinto(buffers[0]):
            piece = buffers[0][:count]
            if aside is None and size >= _SIDE_BY_SIDE_BYTES:
                aside = stack.enter_context(ThreadPoolExecutor(1))
            if hashing is not None:
                hashing.result()
            if aside is None:
                sha256.update(piece)
            else:
                hashing = aside.submit(sha256.update, piece)
                buffers.reverse()
            _write_all(writer, piece)
            size += count
            meter.add(count)
    return FileHash(sha256.hexdigest(), size)


def _write_all(writer: FileIO, piece: memoryview) -> None:
    while piece:
        piece = piece[writer.write(piece) :]
