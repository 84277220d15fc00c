"""What happens to rows that cannot be used: they end the run together, or go to a file with the reason."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from largeforge.data.faults import RAW_CHARACTERS, Fault
from largeforge.errors import DataError, StageError
from largeforge.os_errors import explain_os_error

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

SHOWN_PROBLEMS = 10


class Problems:
    """The first ten problems and the number of all."""

    def __init__(self) -> None:
        self.count = 0
        self._shown: list[str] = []

    def add(self, place: str, reason: str) -> None:
        """Note one problem; `place` is `file:line`."""
        self.count += 1
        if len(self._shown) < SHOWN_PROBLEMS:
            self._shown.append(f"  {place}: {reason}")

    def raise_if_any(self, what: str, remedy: str) -> None:
        """Raise DataError with `what` is wrong, the problems, and what to do about them."""
        if not self.count:
            return
        more = [f"  ... and {self.count - SHOWN_PROBLEMS} more"] if self.count > SHOWN_PROBLEMS else []
        rows = f"{self.count} row{'' if self.count == 1 else 's'}"
        raise DataError("\n".join([f"{rows} {what}:", *self._shown, *more, remedy]))


class BadRows(Protocol):
    """Takes the bad rows of sources, one source after another."""

    count: int
    """Bad rows so far, of all sources."""

    def add(self, file: str, line: int, reason: Fault | str, row: Any) -> None:
        """Take a bad row; `row` is what was read, or None where the reason is a Fault."""

    def finish(self, title: str, rows: int, allowed: str) -> None:
        """Raise DataError if the bad rows of a source, of which that many rows were read, forbid to go on."""


class Refused:
    """Any bad row is an error, and all of them are one."""

    def __init__(self) -> None:
        self.count = 0
        self._problems = Problems()

    def add(self, file: str, line: int, reason: Fault | str, row: Any) -> None:
        """Note a bad row."""
        self.count += 1
        self._problems.add(f"{file}:{line}", reason)

    def finish(self, title: str, rows: int, allowed: str) -> None:
        """Raise DataError if there was one."""
        self._problems.raise_if_any(f"of {title} cannot be used", allowed)


class Counted:
    """Bad rows are counted and no more."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, file: str, line: int, reason: Fault | str, row: Any) -> None:
        """Count a bad row."""
        self.count += 1

    def finish(self, title: str, rows: int, allowed: str) -> None:
        """Let it be."""


class Skipped:
    """Writes bad rows to a file: `file`, `line`, `reason`, and the row itself, cut where it is long.

    The file appears with the first of them. Raises DataError at the end of a source that has too many,
    StageError when the file cannot be written.
    """

    def __init__(self, path: Path, max_share: float):
        self.path = path
        self.count = 0
        self._max_share = max_share
        self._before = 0
        self._problems = Problems()
        self._file: IO[str] | None = None

    def add(self, file: str, line: int, reason: Fault | str, row: Any) -> None:
        """Write a bad row."""
        self.count += 1
        self._problems.add(f"{file}:{line}", reason)
        raw = reason.raw if isinstance(reason, Fault) else json.dumps(row, default=str)
        entry = {"file": file, "line": line, "reason": str(reason), "row": raw[:RAW_CHARACTERS]}
        try:
            if self._file is None:
                self._file = self.path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n")
            self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        except OSError as error:
            raise StageError(explain_os_error(error, self.path)) from error

    def finish(self, title: str, rows: int, allowed: str) -> None:
        """Raise DataError if the share of bad rows in a source is too large."""
        bad, self._before = self.count - self._before, self.count
        problems, self._problems = self._problems, Problems()
        if bad > self._max_share * rows:
            self.close()
            share = (
                f"of the {rows} of {title} cannot be used, more than dataset.max_skipped = {self._max_share:g} allows"
            )
            problems.raise_if_any(share, f"All of them are in {self.path}\n{allowed}")

    def close(self) -> None:
        """Finish the file."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                raise StageError(explain_os_error(error, self.path)) from error
