"""The files that clients uploaded and that batches wrote: rows here, contents in the folder `files/`."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import sqlite3

Purpose = Literal["batch", "batch_output"]

_ID = re.compile(r"file-[0-9a-f]{24}")


@dataclass(frozen=True)
class File:
    """What is known of a file beside its content."""

    id: str
    purpose: Purpose
    filename: str
    bytes: int
    created_at: int
    expires_at: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the file as OpenAI's API shows it."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.bytes,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
        }


def new_id() -> str:
    """Return an id that nobody can guess."""
    return f"file-{secrets.token_hex(12)}"


def is_id(text: str) -> bool:
    """Return whether a text can be the id of a file, and so the name of one in a folder."""
    return _ID.fullmatch(text) is not None


def add(connection: sqlite3.Connection, file: File) -> None:
    """Add a file whose content is in its place; one that is known already stays."""
    connection.execute(
        "INSERT OR IGNORE INTO files (id, purpose, filename, bytes, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)",
        (file.id, file.purpose, file.filename, file.bytes, file.created_at, file.expires_at),
    )


def get(connection: sqlite3.Connection, file_id: str) -> File | None:
    """Return a file, or None when there is none of that id."""
    row = connection.execute("SELECT * FROM files WHERE id = ?", (file_id,)).fetchone()
    return None if row is None else _file(row)


def page(
    connection: sqlite3.Connection, *, after: str, limit: int, purpose: str, newest_first: bool
) -> tuple[list[File], bool] | None:
    """Return the files that come after one, and whether there are more; None when there is no such file."""
    sign, order = ("<", "DESC") if newest_first else (">", "ASC")
    conditions, values = ["1"], []
    if after:
        last = connection.execute("SELECT seq FROM files WHERE id = ?", (after,)).fetchone()
        if last is None:
            return None
        conditions.append(f"seq {sign} ?")
        values.append(last["seq"])
    if purpose:
        conditions.append("purpose = ?")
        values.append(purpose)
    rows = connection.execute(
        f"SELECT * FROM files WHERE {' AND '.join(conditions)} ORDER BY seq {order} LIMIT ?", (*values, limit + 1)
    ).fetchall()
    return [_file(row) for row in rows[:limit]], len(rows) > limit


def remove(connection: sqlite3.Connection, file_id: str) -> None:
    """Remove the row of a file; its content is the caller's to remove afterwards."""
    connection.execute("DELETE FROM files WHERE id = ?", (file_id,))


def outdated(connection: sqlite3.Connection, *, now: int, created_before: int) -> list[str]:
    """Return the files that have expired or were made before a time, but for those that a batch still reads."""
    rows = connection.execute(
        "SELECT id FROM files WHERE (expires_at <= ? OR created_at < ?) AND id NOT IN ("
        "SELECT input_file_id FROM batches WHERE status IN ('validating', 'in_progress', 'finalizing', 'cancelling'))",
        (now, created_before),
    )
    return [row["id"] for row in rows]


def _file(row: sqlite3.Row) -> File:
    return File(**{key: row[key] for key in row.keys() if key != "seq"})  # noqa: SIM118
