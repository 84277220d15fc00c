"""The SQLite database of files, batches and the answers to their lines, worked on in one thread beside the event loop.

Every piece of work is one transaction, so that a process which is killed leaves all of it or nothing. Several gateways
of one folder may share it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from largeforge.errors import ServingError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")

VERSION = 1
BUSY_TIMEOUT_S = 30.0
SHRINK_PAGES = 20_000

_SCHEMA = """
CREATE TABLE files (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    purpose TEXT NOT NULL,
    filename TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
);
CREATE TABLE batches (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    input_file_id TEXT NOT NULL,
    completion_window TEXT NOT NULL,
    metadata TEXT,
    headers TEXT NOT NULL,
    output_seconds INTEGER,
    output_file_id TEXT,
    error_file_id TEXT,
    errors TEXT,
    total INTEGER NOT NULL DEFAULT 0,
    completed INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    ending TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    in_progress_at INTEGER,
    finalizing_at INTEGER,
    completed_at INTEGER,
    failed_at INTEGER,
    expired_at INTEGER,
    cancelling_at INTEGER,
    cancelled_at INTEGER
);
CREATE INDEX batches_by_status ON batches (status);
CREATE TABLE lines (
    batch INTEGER NOT NULL REFERENCES batches (seq) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    custom_id TEXT NOT NULL,
    offset INTEGER NOT NULL,
    length INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0,
    status_code INTEGER,
    request_id TEXT,
    body BLOB,
    PRIMARY KEY (batch, number),
    UNIQUE (batch, custom_id)
);
CREATE INDEX lines_by_state ON lines (batch, state, number);
"""


class Database:
    """A connection in a thread of its own."""

    def __init__(self, path: Path):
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bulk")
        self._connection: sqlite3.Connection

    async def open(self) -> None:
        """Open the database, making it when it is not there.

        Raises ServingError when it cannot be used.
        """
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)

    async def close(self) -> None:
        """Close the database, once all work is done."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown()

    async def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do some work in one transaction and return what it returns; it is done even if the caller is cancelled."""
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, self._do, work))

    async def shrink(self) -> None:
        """Give back to the disk what removed rows have held, a part at a time."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._connection.execute, f"PRAGMA incremental_vacuum({SHRINK_PAGES})")

    def _open(self) -> None:
        try:
            self._connection = connection = sqlite3.connect(
                self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
            self._do(self._make)
        except sqlite3.Error as error:
            message = f"gateway.batches.folder: {self._path} cannot be used as its database: {error}."
            raise ServingError(message) from error

    def _make(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise ServingError(
                f"gateway.batches.folder: {self._path} was made by a newer version of LargeForge (format {version}, "
                f"this one knows {VERSION}). Update LargeForge, or choose another folder."
            )
        if version == 0:
            for statement in _SCHEMA.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(self._connection)
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
        return result
