"""Read rows from a JSONL or Parquet file, one at a time, each with its place.

Reads nothing but regular, uncompressed files. What a row means is for `formats.py`: here a row
is any JSON object. Memory is bounded by one line (JSONL) or one batch of a row group (Parquet).
"""

from __future__ import annotations

import codecs
import json
import stat
from typing import IO, TYPE_CHECKING, Any

from largeforge.errors import DataError, nearest
from largeforge.os_errors import explain_os_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Rows = Iterator[tuple[int, dict[str, Any] | str]]
    """Line, and the object on it or the reason why there is none."""

LINE_LIMIT_BYTES = 16 * 2**20
BATCH_ROWS = 256
PARQUET = b"PAR1"
COMPRESSED = {
    b"\x1f\x8b": ("gzip", "gunzip"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
    b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ\x00": ("xz", "unxz"),
    b"PK\x03\x04": ("zip", "unzip"),
}
"""First bytes to the name of the compression and the program that undoes it."""


def read(path: Path) -> Rows:
    """Return an iterator of (line, object or fault); a Parquet row's line is its number, from 1.

    Raises DataError at once when the file is missing, unreadable, empty or compressed, and
    while iterating when the disk or a Parquet file is broken. Reading goes on after a bad line.
    """
    head = _head(path)
    for magic, (name, program) in COMPRESSED.items():
        if head.startswith(magic):
            raise DataError(f"{path} is compressed with {name}, which is not supported; unpack it first ({program})")
    if head.startswith(PARQUET):
        return _parquet(path)
    if path.suffix == ".parquet":
        raise DataError(f"{path} is not a Parquet file: it does not begin with {PARQUET.decode()}")
    return _jsonl(path)


def count_rows(path: Path) -> int:
    """Return how many rows a readable file has; blank lines of JSONL count as well."""
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


def _jsonl(path: Path) -> Rows:
    try:
        with path.open("rb") as file:
            yield from _objects(file)
    except OSError as error:
        raise DataError(explain_os_error(error, path)) from error


def _objects(file: IO[bytes]) -> Rows:
    if file.read(3) != codecs.BOM_UTF8:
        file.seek(0)
    number = 0
    while line := file.readline(LINE_LIMIT_BYTES + 1):
        number += 1
        if len(line) > LINE_LIMIT_BYTES:
            yield number, f"the line is longer than {LINE_LIMIT_BYTES // 2**20} MiB"
            _skip_rest(file, line)
            continue
        if line.isspace():
            continue
        try:
            value = json.loads(line.decode())
        except (ValueError, RecursionError) as error:
            yield number, _reason(error, line)
            continue
        yield number, value if isinstance(value, dict) else _not_an_object(value)


def _skip_rest(file: IO[bytes], line: bytes) -> None:
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
        return "a list, not an object; JSONL wants one object a line, not one array around them"
    return f"a {type(value).__name__} (JSON), not an object".replace("NoneType", "null")


def _parquet(path: Path) -> Rows:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f"{path} is a Parquet file; reading it needs pyarrow: pip install pyarrow") from error
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}:{number + 1}: broken Parquet file: {reason[:200]}") from error
