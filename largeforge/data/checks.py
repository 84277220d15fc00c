"""Collect everything that is wrong with a file and say it at once.

Rows come out one at a time; nothing is kept but the first ten problems.
"""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING

from largeforge.data import formats, readers
from largeforge.data.faults import RowError
from largeforge.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from largeforge.data.formats import Kind, Row

SHOWN_PROBLEMS = 10
SAMPLE_ROWS = 20
"""Rows from which the form of a file is recognised."""


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


class CheckedFile:
    """A file of which the good rows come out normalised and all bad rows are reported together.

    Raises DataError when the file as a whole cannot be used or is for another kind of method.
    """

    def __init__(self, path: Path, *, form: str, kind: Kind, system: str = "", max_rows: int = 0):
        self.path = path
        self._kind: Kind = kind
        self._max_rows = max_rows
        self._system = system
        lines = islice(readers.read(path), max_rows or None)
        sample = list(islice(lines, SAMPLE_ROWS))
        self._lines = chain(sample, lines)
        good = (row for _, row in sample if isinstance(row, dict))
        recognised = form if form != "auto" else formats.recognise(good, kind)
        self.form = recognised or formats.forms_for(kind)[0]
        self._check_kind()

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Yield (`file:line`, normalised row) for each good row, then raise DataError if any was bad."""
        name, form, system = self.path.name, self.form, self._system
        problems, count = Problems(), 0
        for line, row in self._lines:
            source = f"{name}:{line}"
            if isinstance(row, str):
                problems.add(source, row)
                continue
            try:
                normalised = formats.normalise(row, form, self._kind, system=system)
            except RowError as error:
                problems.add(source, str(error))
                continue
            count += 1
            yield source, normalised
        problems.raise_if_any(f"of {self.path} cannot be used", allowed(self._kind))
        if not count:
            raise DataError(f"{self.path} has no rows\n{allowed(self._kind)}")

    def count_rows(self) -> int:
        """Return about how many rows `rows` goes through; reads the file once, without parsing."""
        count = readers.count_rows(self.path)
        return min(count, self._max_rows) if self._max_rows else count

    def _check_kind(self) -> None:
        theirs = formats.KINDS[self.form]
        if self._kind not in theirs:
            raise DataError(
                f"{self.path} holds rows of the form {self.form}, which are for {formats.METHODS[theirs[0]]}; "
                f"this job's method is one of the {formats.METHODS[self._kind]}\n{allowed(self._kind)}"
            )


def allowed(kind: Kind) -> str:
    """Return the forms that `kind` trains on, each with an example row."""
    shown = (f"  {form}: {formats.EXAMPLES[form]}" for form in formats.forms_for(kind))
    return "\n".join(["Allowed, one object a line:", *shown])
