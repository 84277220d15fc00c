"""The batches: their states, and how each follows from the one before.

validating → in_progress → finalizing → completed or expired; failed when a line is not valid; cancelling → cancelled.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

Status = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]
Ending = Literal["completed", "expired", "cancelled"]

UNFINISHED = ("validating", "in_progress", "finalizing", "cancelling")
ENDED = ("completed", "expired", "cancelled")

_TIMES = (
    "created_at", "in_progress_at", "expires_at", "finalizing_at", "completed_at", "failed_at", "expired_at",
    "cancelling_at", "cancelled_at",
)  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """Why a batch cannot be run: what is wrong with a line of its file."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


@dataclass(frozen=True)
class Batch:
    """A batch as it is now."""

    seq: int
    id: str
    status: Status
    endpoint: str
    input_file_id: str
    completion_window: str
    metadata: dict[str, str] | None
    headers: list[tuple[str, str]]
    """Headers that go with each of its requests."""
    output_seconds: int | None
    """How long its output is kept, when its maker said so."""
    output_file_id: str | None
    error_file_id: str | None
    errors: list[dict[str, Any]] | None
    total: int
    completed: int
    failed: int
    ending: Ending | None
    """What it is to end as, once its output is being written."""
    times: dict[str, int | None]

    @property
    def expires_at(self) -> int:
        """When what is not answered stays unanswered."""
        return self.times["expires_at"] or 0

    def as_json(self) -> dict[str, Any]:
        """Return the batch as OpenAI's API shows it."""
        has_output = self.status in ENDED
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "errors": None if self.errors is None else {"object": "list", "data": self.errors},
            "input_file_id": self.input_file_id,
            "completion_window": self.completion_window,
            "status": self.status,
            "output_file_id": self.output_file_id if has_output else None,
            "error_file_id": self.error_file_id if has_output else None,
            **self.times,
            "request_counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
            "metadata": self.metadata,
        }


def create(
    connection: sqlite3.Connection,
    *,
    endpoint: str,
    input_file_id: str,
    completion_window: str,
    window_s: int,
    metadata: dict[str, str] | None,
    headers: Sequence[tuple[str, str]],
    output_seconds: int | None,
    now: int,
) -> Batch:
    """Add a batch whose file is still to be looked at."""
    batch_id = f"batch_{secrets.token_hex(12)}"
    connection.execute(
        "INSERT INTO batches (id, status, endpoint, input_file_id, completion_window, metadata, headers, "
        "output_seconds, created_at, expires_at) VALUES (?, 'validating', ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            batch_id,
            endpoint,
            input_file_id,
            completion_window,
            None if metadata is None else json.dumps(metadata),
            json.dumps(list(headers)),
            output_seconds,
            now,
            now + window_s,
        ),
    )
    batch = get(connection, batch_id)
    assert batch is not None
    return batch


def get(connection: sqlite3.Connection, batch_id: str) -> Batch | None:
    """Return a batch, or None when there is none of that id."""
    row = connection.execute("SELECT * FROM batches WHERE id = ?", (batch_id,)).fetchone()
    return None if row is None else _batch(row)


def page(connection: sqlite3.Connection, *, after: str, limit: int) -> tuple[list[Batch], bool] | None:
    """Return the batches made before one, the newest first, and whether there are more; None when it is not there."""
    seq = 2**62
    if after:
        last = connection.execute("SELECT seq FROM batches WHERE id = ?", (after,)).fetchone()
        if last is None:
            return None
        seq = last["seq"]
    rows = connection.execute(
        "SELECT * FROM batches WHERE seq < ? ORDER BY seq DESC LIMIT ?", (seq, limit + 1)
    ).fetchall()
    return [_batch(row) for row in rows[:limit]], len(rows) > limit


def unfinished(connection: sqlite3.Connection) -> list[Batch]:
    """Return the batches that something is still to be done for, the oldest first."""
    marks = ", ".join("?" * len(UNFINISHED))
    rows = connection.execute(f"SELECT * FROM batches WHERE status IN ({marks}) ORDER BY seq", UNFINISHED)
    return [_batch(row) for row in rows]


def num_unfinished(connection: sqlite3.Connection) -> int:
    """Return how many batches something is still to be done for."""
    marks = ", ".join("?" * len(UNFINISHED))
    count: int = connection.execute(f"SELECT count(*) FROM batches WHERE status IN ({marks})", UNFINISHED).fetchone()[0]
    return count


def readers(connection: sqlite3.Connection, file_id: str) -> list[str]:
    """Return the unfinished batches that read a file."""
    return [batch.id for batch in unfinished(connection) if batch.input_file_id == file_id]


def begin(connection: sqlite3.Connection, seq: int, *, total: int, now: int) -> None:
    """Note that all lines are valid and that answering begins."""
    connection.execute(
        "UPDATE batches SET status = 'in_progress', in_progress_at = ?, total = ? "
        "WHERE seq = ? AND status = 'validating'",
        (now, total, seq),
    )


def fail(connection: sqlite3.Connection, seq: int, faults: Sequence[Fault], *, now: int) -> None:
    """Note that the file has faults, so that nothing of it is answered."""
    errors = [
        {"code": fault.code, "line": fault.line, "message": fault.message, "param": fault.param} for fault in faults
    ]
    connection.execute(
        "UPDATE batches SET status = 'failed', failed_at = ?, errors = ? WHERE seq = ? AND status = 'validating'",
        (now, json.dumps(errors), seq),
    )


def cancel(connection: sqlite3.Connection, batch_id: str, *, now: int) -> Batch | None:
    """Ask for the end of a batch; one that is ending or has ended stays as it is."""
    connection.execute(
        "UPDATE batches SET status = 'cancelling', cancelling_at = ? "
        "WHERE id = ? AND status IN ('validating', 'in_progress')",
        (now, batch_id),
    )
    return get(connection, batch_id)


def finalize(
    connection: sqlite3.Connection, seq: int, *, ending: Ending, output_file_id: str, error_file_id: str, now: int
) -> Batch:
    """Note that the output is being written and what its files are called; the first call decides."""
    connection.execute(
        "UPDATE batches SET status = CASE status WHEN 'cancelling' THEN status ELSE 'finalizing' END, "
        "finalizing_at = ?, ending = CASE status WHEN 'cancelling' THEN 'cancelled' ELSE ? END, "
        "output_file_id = ?, error_file_id = ? WHERE seq = ? AND ending IS NULL",
        (now, ending, output_file_id, error_file_id, seq),
    )
    return _batch(connection.execute("SELECT * FROM batches WHERE seq = ?", (seq,)).fetchone())


def end(
    connection: sqlite3.Connection, seq: int, *, output_file_id: str | None, error_file_id: str | None, now: int
) -> None:
    """Note that the output is in its place, or that there is none."""
    ending = connection.execute("SELECT ending FROM batches WHERE seq = ?", (seq,)).fetchone()["ending"]
    assert ending in ENDED
    connection.execute(
        f"UPDATE batches SET status = ?, {ending}_at = ?, output_file_id = ?, error_file_id = ? WHERE seq = ?",
        (ending, now, output_file_id, error_file_id, seq),
    )


def remove_outdated(connection: sqlite3.Connection, *, created_before: int) -> None:
    """Forget batches that ended and were made before a time."""
    marks = ", ".join("?" * len(UNFINISHED))
    connection.execute(
        f"DELETE FROM batches WHERE created_at < ? AND status NOT IN ({marks})", (created_before, *UNFINISHED)
    )


def _batch(row: sqlite3.Row) -> Batch:
    values = {key: row[key] for key in row.keys() if key not in _TIMES}  # noqa: SIM118
    for key in ("metadata", "headers", "errors"):
        values[key] = None if values[key] is None else json.loads(values[key])
    values["headers"] = [(name, value) for name, value in values["headers"]]
    return Batch(**values, times={key: row[key] for key in _TIMES})
