"""Write the answers of a batch as files: those that succeeded, and those that did not.

Written from what the database holds, as often as need be: a process that was killed meanwhile writes the same again.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from largeforge.gateway.bulk import batches, files, lines
from largeforge.gateway.bulk.files import File

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from largeforge.gateway.bulk.batches import Batch
    from largeforge.gateway.bulk.database import Database
    from largeforge.gateway.bulk.lines import Line

LINES_AT_ONCE = 64

_UNANSWERED = {
    "expired": ("batch_expired", "This request could not be executed before the completion window expired."),
    "cancelled": ("batch_cancelled", "This request was not executed because the batch was cancelled."),
    "completed": ("not_answered", "This request was not executed."),
}


@dataclass
class _Written:
    """One of the two files of a batch."""

    id: str
    path: Path
    temporary: Path
    file: BinaryIO
    num_bytes: int = 0

    def write(self, content: bytes) -> None:
        self.file.write(content)
        self.num_bytes += len(content)

    def close(self) -> None:
        """Put the file in its place, or remove it when nothing was written."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        if self.num_bytes:
            self.temporary.rename(self.path)
        else:
            self.temporary.unlink()


async def write(database: Database, folder: Path, batch: Batch, *, now: int) -> None:
    """Write the files of a batch whose end has been noted, and note that they are there."""
    assert batch.output_file_id is not None and batch.error_file_id is not None
    output, error = (_open(folder, file_id) for file_id in (batch.output_file_id, batch.error_file_id))
    last = 0
    with output.file, error.file:
        while page := await database.do(_page_after(batch.seq, last)):
            await asyncio.to_thread(_write_page, page, batch, output, error)
            last = page[-1].number
        await asyncio.to_thread(output.close)
        await asyncio.to_thread(error.close)
    expires_at = None if batch.output_seconds is None else now + batch.output_seconds

    def end(connection: sqlite3.Connection) -> None:
        for written, name in ((output, "output"), (error, "errors")):
            if written.num_bytes:
                filename = f"{batch.id}_{name}.jsonl"
                files.add(connection, File(written.id, "batch_output", filename, written.num_bytes, now, expires_at))
        batches.end(
            connection,
            batch.seq,
            output_file_id=output.id if output.num_bytes else None,
            error_file_id=error.id if error.num_bytes else None,
            now=now,
        )
        lines.remove(connection, batch.seq)

    await database.do(end)


def _page_after(batch: int, last: int) -> Any:
    return lambda connection: lines.page(connection, batch, after=last, limit=LINES_AT_ONCE)


def _open(folder: Path, file_id: str) -> _Written:
    temporary = folder / "uploads" / file_id
    return _Written(file_id, folder / "files" / file_id, temporary, temporary.open("wb"))


def _write_page(page: list[Line], batch: Batch, output: _Written, error: _Written) -> None:
    for line in page:
        (output if line.state == lines.ANSWERED else error).write(_entry(line, batch))


def _entry(line: Line, batch: Batch) -> bytes:
    """Return what a line of the output says about a line of the input."""
    entry: dict[str, Any] = {
        "id": f"batch_req_{batch.id.removeprefix('batch_')}_{line.number}",
        "custom_id": line.custom_id,
        "response": None,
        "error": None,
    }
    if line.state == lines.WAITING:
        code, message = _UNANSWERED[batch.ending or "completed"]
        entry["error"] = {"code": code, "message": message}
    elif line.status_code:
        body = _json(line.body or b"")
        entry["response"] = {"status_code": line.status_code, "request_id": line.request_id, "body": body}
        if line.state == lines.FAILED and line.status_code == 200:
            entry["error"] = {"code": "invalid_answer", "message": "The expert's answer is no JSON object."}
    else:
        entry["error"] = {"code": "no_answer", "message": "The request was not answered."}
    return orjson.dumps(entry) + b"\n"


def _json(body: bytes) -> Any:
    """Return an answer as it came, on one line, or as text where it is no JSON."""
    try:
        parsed = orjson.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")
    return parsed if b"\n" in body else orjson.Fragment(body)
