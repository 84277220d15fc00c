"""Read rows from one file, one at a time, each with its place.

JSONL, Parquet, CSV (`.csv`, `.tsv`) and JSON arrays (`.json`); all but Parquet also compressed. What a row
means is for `formats.py`: here a row is any JSON object. Memory is bounded by one line (JSONL, CSV), one item
(array) or one batch of a row group (Parquet).
"""

from __future__ import annotations

import codecs
import json
import stat
from typing import TYPE_CHECKING

from largeforge.data import streams, tables
from largeforge.data.faults import LINE_LIMIT_BYTES, Fault
from largeforge.errors import DataError, nearest
from largeforge.files.paths import COMPRESSIONS
from largeforge.os_errors import explain_os_error

if TYPE_CHECKING:
    from io import BufferedReader
    from pathlib import Path

    from largeforge.data.faults import Rows
    from largeforge.data.streams import Stream

PARQUET = b"PAR1"


def read(path: Path) -> Rows:
    """Return an iterator of (line, object or fault); a Parquet row's line is its number, from 1.

    Raises DataError at once when the file is missing, unreadable or empty, and while iterating when the
    disk, a compressed file or a Parquet file is broken. Reading goes on after a bad line.
    """
    head = _head(path)
    if head.startswith(PARQUET):
        return tables.parquet(path)
    if path.suffix == ".parquet":
        raise DataError(f"{path} is not a Parquet file: it does not begin with {PARQUET.decode()}")
    if fault := streams.unusable(head):
        raise DataError(f"{path} {fault}")
    return _opened(path)


def read_from(file: BufferedReader, path: Path) -> Rows:
    """Return the rows of an open file that is not Parquet; where it is read from tells how far one is."""
    stream = streams.unpacked(file, path)
    kind = suffix(path)
    if kind in (".csv", ".tsv"):
        return tables.csv(stream, path, tab=kind == ".tsv")
    if kind == ".json" and _begins_with_a_bracket(stream):
        return tables.array(stream)
    return _objects(stream)


def suffix(path: Path) -> str:
    """Return what the name of a file says of its content, without compression, in lower case."""
    name = path.name.lower()
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    return f".{name.rpartition('.')[2]}" if "." in name else ""


def is_lines(path: Path) -> bool:
    """Tell whether rows can be read from any place of a readable file: whether it is plain JSONL."""
    head = _head(path)
    packed = head.startswith(PARQUET) or streams.compression(head)
    return not packed and (
        suffix(path) not in (".csv", ".tsv", ".json") or (suffix(path) == ".json" and head[:1] == b"{")
    )


def count_rows(path: Path) -> int:
    """Return how many rows a readable file of Parquet or plain lines has; blank lines and a CSV's header count."""
    if _head(path).startswith(PARQUET):
        import pyarrow.parquet

        return int(pyarrow.parquet.read_metadata(path).num_rows)
    with path.open("rb") as file:
        lines, chunk = 0, b"\n"
        for chunk in iter(lambda: file.read(2**20), b""):
            lines += chunk.count(b"\n")
        return lines + (not chunk.endswith(b"\n"))


def _head(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise DataError(f"{path} is not a regular file")
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise DataError(explain_os_error(error, path) + _similar(path)) from error
    if not head:
        raise DataError(f"{path} is empty")
    return head


def _similar(path: Path) -> str:
    try:
        name = nearest(path.name, (file.name for file in path.parent.iterdir() if file.name != path.name))
    except OSError:
        return ""
    return f". Did you mean '{name}'?" if name and not path.exists() else ""


def _opened(path: Path) -> Rows:
    try:
        with path.open("rb") as file:
            yield from read_from(file, path)
    except EOFError as error:
        raise DataError(f"{path} ends in the middle of its compressed data; was it cut off?") from error
    except streams.BROKEN as error:
        raise DataError(f"{path} is broken: {error}") from error
    except OSError as error:
        if error.errno is None:  # of a decompressor
            raise DataError(f"{path} is broken: {error}") from error
        raise DataError(explain_os_error(error, path)) from error


def _begins_with_a_bracket(stream: Stream) -> bool:
    return stream.peek(256).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")


def _objects(file: Stream) -> Rows:
    number = 0
    while line := file.readline(LINE_LIMIT_BYTES + 1):
        number += 1
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if len(line) > LINE_LIMIT_BYTES:
            yield number, Fault(f"the line is longer than {LINE_LIMIT_BYTES // 2**20} MiB", line)
            _skip_rest(file, line)
            continue
        if line.isspace():
            continue
        try:
            value = json.loads(line.decode())
        except (ValueError, RecursionError) as error:
            yield number, Fault(_reason(error, line), line)
            continue
        yield number, value if isinstance(value, dict) else Fault(_not_an_object(value), line)


def _skip_rest(file: Stream, line: bytes) -> None:
    while line and not line.endswith(b"\n"):
        line = file.readline(LINE_LIMIT_BYTES)


def _reason(error: Exception, line: bytes) -> str:
    if isinstance(error, UnicodeDecodeError):
        hint = " (is it UTF-16?)" if b"\x00" in line else ""
        return f"not UTF-8: byte {error.start + 1} of the line is 0x{line[error.start]:02x}{hint}"
    if isinstance(error, json.JSONDecodeError):
        column = min(error.pos, len(error.doc.rstrip())) + 1
        hint = "" if line.endswith(b"\n") else " (the last line; was the file cut off?)"
        return f"not JSON: column {column}: {error.msg}{hint}"
    if isinstance(error, RecursionError):
        return "not usable JSON: nested too deep"
    return f"not usable JSON: {str(error).partition(';')[0]}"


def _not_an_object(value: object) -> str:
    if isinstance(value, list):
        return "a list, not an object; JSONL wants one object a line, not one array around them (that is a .json file)"
    return f"a {type(value).__name__} (JSON), not an object".replace("NoneType", "null")
