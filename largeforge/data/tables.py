"""Rows of files that are no lines of JSON: Parquet, CSV, and JSON arrays."""

from __future__ import annotations

import csv as csv_module
import io
import json
from typing import TYPE_CHECKING, Any

from largeforge.data.faults import LINE_LIMIT_BYTES, Fault
from largeforge.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from largeforge.data.faults import Rows
    from largeforge.data.streams import Stream

BATCH_ROWS = 256
STRUCTURED = ("messages", "conversations", "tools", "prompt", "chosen", "rejected", "completion")
"""Columns whose cells may be lists, written as JSON, where a file has nothing but text."""
_CHUNK_CHARACTERS = 2**16


def parquet(path: Path) -> Rows:
    """Return the rows of a Parquet file, without the nulls that Arrow fills its structures with.

    Arrow gives every object of a column the same keys: one without a key gets it with null. A key of an
    object below the top whose value is null is therefore left out. Raises DataError when the file is broken.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f"{path} is a Parquet file; reading it needs pyarrow: pip install pyarrow") from error
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                for row in rows_of(batch):
                    number += 1
                    yield number, row
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}:{number + 1}: broken Parquet file: {reason[:200]}") from error


def rows_of(batch: Any) -> list[dict[str, Any]]:
    """Return the rows of an Arrow batch as they were before Arrow."""
    nested = any(field.type.num_fields for field in batch.schema)
    rows: list[dict[str, Any]] = batch.to_pylist(maps_as_pydicts="lossy")
    return [{key: _without_nulls(value) for key, value in row.items()} for row in rows] if nested else rows


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def csv(stream: Stream, path: Path, *, tab: bool) -> Rows:
    """Return the rows below a header; an empty cell is null, and a cell of a structured column may be JSON.

    A row's line is the one where it begins. A file with semicolons and no comma in its header is read as such.
    Raises DataError when a column is there twice.
    """
    csv_module.field_size_limit(LINE_LIMIT_BYTES)
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    try:
        yield from _table(text, path, tab=tab)
    finally:
        text.detach()


def _table(text: io.TextIOWrapper, path: Path, *, tab: bool) -> Rows:
    first = text.readline(LINE_LIMIT_BYTES)
    delimiter = "\t" if tab else ";" if ";" in first and "," not in first else ","
    reader = csv_module.reader(_lines(first, text), delimiter=delimiter, strict=True)
    names: list[str] = []
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv_module.Error as error:
            yield line, Fault(f"not CSV: {error}")
            continue
        if not any(cells):
            continue
        if names:
            yield line, _row(names, cells)
            continue
        names = [cell.strip() for cell in cells]
        if len(set(names)) < len(names):
            raise DataError(f"{path}:{line}: two columns have one name: {', '.join(names)[:200]}")


def _lines(first: str, text: io.TextIOWrapper) -> Iterator[str]:
    yield first
    while line := text.readline(LINE_LIMIT_BYTES):
        yield line


def _row(names: list[str], cells: list[str]) -> dict[str, Any] | Fault:
    raw = ",".join(cells)
    if len(cells) != len(names):
        count = f"{len(cells)} cell{'' if len(cells) == 1 else 's'}"
        return Fault(f"{count} in a table of {len(names)} columns ({', '.join(names)})"[:200], raw)
    if not raw.isascii() and any("\udc80" <= char <= "\udcff" for char in raw):
        rule = "not UTF-8; export the table as UTF-8, or convert it: iconv -f WINDOWS-1252 -t UTF-8"
        return Fault(rule, raw.encode(errors="surrogateescape"))
    row: dict[str, Any] = {name: cell or None for name, cell in zip(names, cells, strict=True)}
    for name in STRUCTURED:
        cell = row.get(name)
        if cell and cell.startswith("["):
            try:
                row[name] = json.loads(cell)
            except (ValueError, RecursionError):
                continue  # text that begins with a bracket
    return row


def array(stream: Stream) -> Rows:
    """Return the items of a JSON array, one at a time; a row's line is the one where it begins.

    Where the JSON itself is wrong, nothing can be read after it.
    """
    text = io.TextIOWrapper(stream, encoding="utf-8-sig")
    items = _Items(text)
    try:
        while items.next():
            value = items.value
            wrong = Fault(f"a {type(value).__name__} (JSON), not an object".replace("NoneType", "null"), str(value))
            yield items.line, value if isinstance(value, dict) else wrong
    except UnicodeDecodeError as error:
        yield items.line, Fault(f"not UTF-8 here or in the lines below: byte 0x{error.object[error.start]:02x}")
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        yield items.line, Fault(f"not JSON: {reason}; what follows cannot be read", items.rest)
    finally:
        text.detach()


class _Items:
    """Takes the items of an array from a text stream, with no more in memory than one item and a chunk."""

    def __init__(self, text: io.TextIOWrapper):
        self.value: Any = None
        self.line = 1
        """Where the item begins, or what comes in its place."""
        self._now = 1
        self._text = text
        self._decode = json.JSONDecoder().raw_decode
        self._buffer = ""
        self._at = 0
        self._started = False
        self._ended = False

    @property
    def rest(self) -> str:
        """What is read and not yet understood."""
        return self._buffer[self._at :]

    def next(self) -> bool:
        """Read one item into `value`; return whether there was one. Raises ValueError for broken JSON."""
        char = self._significant()
        if not self._started or char == ",":
            self._started, self._at = True, self._at + 1  # at first the bracket that the caller has seen
            char = self._significant()
        elif char != "]":
            raise ValueError("expecting ',' or ']'" if char else "the array does not end; was the file cut off?")
        if char == "]":
            return False
        self.value = self._item()
        return True

    def _item(self) -> Any:
        wanted = _CHUNK_CHARACTERS
        while True:
            try:
                value, end = self._decode(self._buffer, self._at)
            except json.JSONDecodeError:
                if self._ended or len(self._buffer) > LINE_LIMIT_BYTES:
                    raise
                self._more(wanted)
                wanted *= 2  # a large item is not tried again for each of its chunks
                continue
            if end == len(self._buffer) and not self._ended:  # a number may go on
                self._more(wanted)
                continue
            self._now += self._buffer.count("\n", self._at, end)
            self._at = end
            return value

    def _significant(self) -> str:
        """Return the next character that is no white space, without taking it; empty at the end."""
        while True:
            while self._at < len(self._buffer):
                char = self._buffer[self._at]
                if not char.isspace():
                    self.line = self._now
                    return char
                self._now += char == "\n"
                self._at += 1
            if self._ended:
                self.line = self._now
                return ""
            self._more(_CHUNK_CHARACTERS)

    def _more(self, characters: int) -> None:
        chunk = self._text.read(characters)
        self._ended = not chunk
        self._buffer = self._buffer[self._at :] + chunk
        self._at = 0
