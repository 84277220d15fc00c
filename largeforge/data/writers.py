"""Write normalised rows as JSONL: same rows, same bytes, and a clear word when the disk is full."""

from __future__ import annotations

import errno
import hashlib
import json
from array import array
from typing import TYPE_CHECKING

from largeforge.data import formats
from largeforge.errors import StageError
from largeforge.os_errors import explain_os_error, mebibytes

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from largeforge.data.formats import Row

CHUNK_CHARACTERS = 2**19
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


class RowWriter:
    """Writes rows to a new file and keeps the length of each in characters, and the file's digest.

    `needed_bytes` is about what all of the stage's files take, for the message when the disk is
    full. Raises StageError when the file cannot be written.
    """

    def __init__(self, path: Path, *, needed_bytes: int = 0):
        self.path = path
        self.lengths = array("Q")
        self.needed_bytes = needed_bytes
        self._digest = hashlib.sha256()
        self._written_bytes = 0
        self._lines: list[str] = []
        self._waiting = 0
        try:
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            raise self._failure(error) from error

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if error is None:
                self._flush()
        finally:
            self._file.close()

    @property
    def rows(self) -> int:
        """Rows written so far."""
        return len(self.lengths)

    def write(self, row: Row, source: str) -> None:
        """Write a normalised row with its `source`, which is `file:line`."""
        self.write_line(_encode({**row, "source": source}) + "\n", formats.contents(row))

    def write_line(self, line: str, characters: int) -> None:
        """Write a row that is encoded already, line break included, given how long its text is."""
        self.lengths.append(characters)
        self._lines.append(line)
        self._waiting += len(line)
        if self._waiting >= CHUNK_CHARACTERS:
            self._flush()

    @property
    def sha256(self) -> str:
        """Digest of the whole file, once it is closed."""
        return self._digest.hexdigest()

    def _flush(self) -> None:
        chunk = "".join(self._lines).encode()
        self._lines.clear()
        self._waiting = 0
        self._digest.update(chunk)
        rest = memoryview(chunk)
        try:
            while rest:
                done = self._file.write(rest)
                self._written_bytes += done
                rest = rest[done:]
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> StageError:
        message = explain_os_error(error, self.path)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message += f" after {mebibytes(self._written_bytes)}"
            message += f"; the prepared rows need about {mebibytes(self.needed_bytes)} in {self.path.parent}"
        return StageError(message)


def without(written: RowWriter, gone: bytearray) -> RowWriter:
    """Take the marked rows out of a finished file; return the writer of the new one."""
    if not any(gone):
        return written
    path = written.path
    with (
        path.open(encoding="utf-8", newline="\n") as file,
        RowWriter(path.with_suffix(".rewrite"), needed_bytes=written.needed_bytes) as kept,
    ):
        for line, characters, is_gone in zip(file, written.lengths, gone, strict=True):
            if not is_gone:
                kept.write_line(line, characters)
    kept.path = kept.path.replace(path)
    return kept
