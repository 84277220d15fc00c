"""How many requests each worker has at each server, in memory that all workers of a gateway share.

A worker writes only numbers of its own, so nothing is locked; a sum may be a request behind, which is why a server's
limit may be exceeded for a moment by as many requests as there are workers.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from largeforge.errors import ServingError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MOST_SERVERS = 4096
"""Servers that a gateway may have had since it was started."""
_BYTES = 4


class Count:
    """The requests at one server."""

    def __init__(self, numbers: memoryview, row: int, worker: int, workers: int):
        self._numbers = numbers
        self._own = worker * MOST_SERVERS + row
        self._others = [other * MOST_SERVERS + row for other in range(workers) if other != worker]

    def add(self, change: int) -> None:
        """Count requests of this worker."""
        self._numbers[self._own] += change

    @property
    def of_others(self) -> int:
        """Requests of the other workers."""
        numbers = self._numbers
        return sum(numbers[place] for place in self._others)


class Counts:
    """The numbers of one gateway; `make` makes them, each worker opens them."""

    def __init__(self, folder: Path, *, worker: int, workers: int):
        self._folder = folder
        self._worker, self._workers = worker, workers
        with (folder / "counts").open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)
        self._numbers = memoryview(self._memory).cast("i")

    @staticmethod
    def make(folder: Path, *, workers: int) -> None:
        """Make the numbers, all 0."""
        (folder / "counts").write_bytes(bytes(_BYTES * MOST_SERVERS * workers))

    def clear(self) -> None:
        """Forget what this worker counted before it was started again."""
        start = self._worker * MOST_SERVERS
        for place in range(start, start + MOST_SERVERS):
            self._numbers[place] = 0

    def of(self, url: str) -> Count:
        """Return the count of a server.

        Raises ServingError when the gateway has had too many servers.
        """
        path = self._folder / "servers.json"
        with _locked(self._folder / "servers.lock"):
            rows: list[str] = json.loads(path.read_bytes()) if path.is_file() else []
            if url not in rows:
                if len(rows) == MOST_SERVERS:
                    raise ServingError(f"this gateway has had {MOST_SERVERS} servers; start it anew to add {url}")
                rows.append(url)
                temporary = path.with_suffix(".new")  # without waiting for the disk, as it ends with the gateway
                temporary.write_text(json.dumps(rows), encoding="utf-8")
                temporary.replace(path)
        return Count(self._numbers, rows.index(url), self._worker, self._workers)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
