"""Rows from all over a file, the same ones each time, and how many rows it has."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from largeforge.data import readers, tables
from largeforge.data.faults import LINE_LIMIT_BYTES
from largeforge.errors import DataError
from largeforge.os_errors import explain_os_error

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PIECES = 32
"""Places of a large file that rows are read from."""
COUNTED_BYTES = 256 * 2**20
"""Up to that size line breaks are counted, about 0.1 s; the rows of a larger file are extrapolated."""
PACKED = 4
"""By how much compression may shrink a file, about: so much less of it is read."""
GROUPS = 4
"""Row groups of a Parquet file that rows are read from."""


@dataclass(frozen=True)
class Sample:
    """Some rows of a file."""

    rows: Sequence[dict[str, Any] | str]
    """Rows, or for those that are none the reason."""
    total_rows: int
    is_whole: bool
    """Whether these are all rows (that `max_rows` allows)."""


def sample(path: Path, *, max_bytes: int, max_rows: int = 0) -> Sample:
    """Return all rows of a file of up to `max_bytes`, else rows from evenly spaced places.

    Where `max_rows` is not 0, only that many rows count, and a sample is the first of them. Raises DataError
    when the file cannot be read.
    """
    rows = readers.read(path)  # says what is wrong with the file as a whole
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            if file.read(4) == readers.PARQUET:
                return _parquet(path, max_rows)
        lines = readers.is_lines(path)
        if size <= (max_bytes if lines else max_bytes // PACKED):
            found = [row for _, row in islice(rows, max_rows or None)]
            return Sample(found, len(found), is_whole=True)
        return _jsonl(path, size, max_bytes, max_rows) if lines else _beginning(path, size, max_bytes, max_rows)
    except OSError as error:
        raise DataError(explain_os_error(error, path)) from error


def _jsonl(path: Path, size: int, max_bytes: int, max_rows: int) -> Sample:
    total = readers.count_rows(path) if size <= COUNTED_BYTES else 0
    if max_rows:
        lines = _lines(path, [0], max_bytes)[:max_rows]
        wanted = min(max_rows, total or max_rows)
        return Sample([_row(line) for line in lines], wanted, is_whole=len(lines) == wanted)
    lines = _lines(path, [size * piece // PIECES for piece in range(PIECES)], max_bytes // PIECES)
    mean = sum(map(len, lines)) / max(1, len(lines))
    return Sample([_row(line) for line in lines], total or round(size / max(mean, 1.0)), is_whole=False)


def _beginning(path: Path, size: int, max_bytes: int, max_rows: int) -> Sample:
    """Return the first rows of a file that cannot be entered in its middle: a CSV, or a compressed one."""
    found: list[dict[str, Any] | str] = []
    with path.open("rb") as file:
        for _, row in readers.read_from(file, path):
            found.append(row)
            if len(found) == max_rows or file.tell() * PACKED > max_bytes:
                break
        else:
            return Sample(found, len(found), is_whole=True)
        total = round(len(found) * size / max(file.tell(), 1))
    whole = len(found) == max_rows
    return Sample(found, min(total, max_rows) if max_rows and not whole else max_rows or total, is_whole=whole)


def _lines(path: Path, places: list[int], bytes_each: int) -> list[bytes]:
    """Return the whole lines that begin within `bytes_each` bytes after each place, blank ones left out."""
    lines: list[bytes] = []
    with path.open("rb") as file:
        for place in places:
            file.seek(place)
            if place:
                file.readline(LINE_LIMIT_BYTES)  # the rest of a line
            end = file.tell() + bytes_each
            while file.tell() < end and (line := file.readline(LINE_LIMIT_BYTES)):
                lines.append(line)
    return [line for line in lines if not line.isspace()]


def _row(line: bytes) -> dict[str, Any] | str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return "not JSON"
    return row if isinstance(row, dict) else "not an object"


def _parquet(path: Path, max_rows: int) -> Sample:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            total, groups = file.metadata.num_rows, file.num_row_groups
            rows: list[dict[str, Any] | str] = []
            for group in sorted({groups * piece // GROUPS for piece in range(GROUPS)}) if groups else []:
                batch = next(file.iter_batches(batch_size=tables.BATCH_ROWS * 4, row_groups=[group]), None)
                rows += tables.rows_of(batch) if batch is not None else []
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: broken Parquet file: {(str(error).splitlines() or ['?'])[0][:200]}") from error
    total = min(total, max_rows) if max_rows else total
    whole = len(rows) >= total
    return Sample(rows[:total] if whole else rows, total, is_whole=whole)
