"""The lines of batches: one request each, waiting, answered or failed, and each of them exactly once."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

WAITING, ANSWERED, FAILED = range(3)


@dataclass(frozen=True)
class Line:
    """A line of a file, and the answer to it."""

    number: int
    """Counted from 1, as editors do."""
    custom_id: str
    offset: int
    length: int
    state: int = WAITING
    status_code: int | None = None
    request_id: str | None = None
    body: bytes | None = None


def add(connection: sqlite3.Connection, batch: int, lines: Iterable[Line]) -> None:
    """Add lines that wait."""
    connection.executemany(
        "INSERT INTO lines (batch, number, custom_id, offset, length) VALUES (?, ?, ?, ?, ?)",
        ((batch, line.number, line.custom_id, line.offset, line.length) for line in lines),
    )


def waiting(connection: sqlite3.Connection, batch: int, *, after: int, limit: int) -> list[Line]:
    """Return the next lines that wait."""
    rows = connection.execute(
        "SELECT number, custom_id, offset, length FROM lines "
        "WHERE batch = ? AND state = ? AND number > ? ORDER BY number LIMIT ?",
        (batch, WAITING, after, limit),
    )
    return [Line(**row) for row in map(dict, rows)]


def settle(
    connection: sqlite3.Connection,
    batch: int,
    number: int,
    *,
    is_answered: bool,
    status_code: int,
    request_id: str,
    body: bytes,
) -> None:
    """Keep the answer to a line that waits; one that is settled stays as it is."""
    changed = connection.execute(
        "UPDATE lines SET state = ?, status_code = ?, request_id = ?, body = ? "
        "WHERE batch = ? AND number = ? AND state = ?",
        (ANSWERED if is_answered else FAILED, status_code, request_id, body, batch, number, WAITING),
    ).rowcount
    counter = "completed" if is_answered else "failed"
    connection.execute(f"UPDATE batches SET {counter} = {counter} + ? WHERE seq = ?", (changed, batch))


def page(connection: sqlite3.Connection, batch: int, *, after: int, limit: int) -> list[Line]:
    """Return the next lines with their answers."""
    rows = connection.execute(
        "SELECT number, custom_id, offset, length, state, status_code, request_id, body FROM lines "
        "WHERE batch = ? AND number > ? ORDER BY number LIMIT ?",
        (batch, after, limit),
    )
    return [Line(**row) for row in map(dict, rows)]


def remove(connection: sqlite3.Connection, batch: int) -> None:
    """Forget all lines of a batch."""
    connection.execute("DELETE FROM lines WHERE batch = ?", (batch,))
