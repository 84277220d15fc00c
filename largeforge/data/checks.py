"""Read a source whole, bring its rows to the form of their kind, and say at once what is wrong with it.

Rows come out one at a time; nothing is kept but the first ten problems.
"""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING

from largeforge.data import bad_rows, formats, readers, samples
from largeforge.data.faults import RowError
from largeforge.errors import DataError, listed, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from largeforge.data.bad_rows import BadRows
    from largeforge.data.faults import Fault
    from largeforge.data.formats import Kind, Row
    from largeforge.files.paths import DataFile
    from largeforge.recipe.schema import Source

SAMPLE_ROWS = 20
"""Rows from which the form of a file is recognised."""
_ESTIMATED_BYTES = 2**18


class CheckedSource:
    """The files of a source, of which the good rows come out normalised and all bad rows are reported together.

    Raises DataError when a file as a whole cannot be used or is for another kind of method; for the first
    file at once.
    """

    def __init__(
        self, source: Source, files: Sequence[DataFile], kind: Kind, *, name: str = "", bad: BadRows | None = None
    ):
        self.source = source
        self.files = _not_empty(files)
        self.name = name
        """Of the source within a mixture; its rows are `name/file:line`."""
        self.title = _title(source, files)
        self.kind: Kind = kind
        self.bad = bad or bad_rows.Refused()
        self.num_read = 0
        self._forms: list[str] = []
        self._first = self._open(self.files[0])

    @property
    def form(self) -> str:
        """Form of the rows; several, with commas, where files differ."""
        return ", ".join(dict.fromkeys(self._forms))

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Yield (`file:line`, normalised row) for each good row, then raise DataError if bad rows forbid to go on."""
        count, most = 0, self.source.max_rows
        for index, file in enumerate(self.files):
            checked = self._first if index == 0 else self._open(file)
            label = f"{self.name}/{file.label}" if self.name else file.label
            for line, row, fault in checked.rows(most - self.num_read if most else None):
                self.num_read += 1
                if fault is not None:
                    self.bad.add(label, line, fault, row)
                    continue
                count += 1
                assert row is not None
                yield f"{label}:{line}", row
            if most and self.num_read >= most:
                break
        self.bad.finish(self.title, self.num_read, allowed(self.kind))
        if not count:
            raise DataError(f"{self.title} has no rows\n{allowed(self.kind)}")

    def count_rows(self) -> int:
        """Return about how many rows `rows` goes through; plain files are read once for it, without parsing."""
        rows = sum(count(file.path)[0] for file in self.files)
        return min(rows, self.source.max_rows) if self.source.max_rows else rows

    def _open(self, file: DataFile) -> _CheckedFile:
        try:
            checked = _CheckedFile(file, self.source, self.kind)
        except DataError as error:
            raise DataError(file.told(str(error))) from error
        self._forms.append(checked.form)
        return checked


class _CheckedFile:
    """One file: its form is recognised and fits the kind of method."""

    def __init__(self, file: DataFile, source: Source, kind: Kind):
        self._file, self._source, self._kind = file, source, kind
        path = file.path
        self._lines = readers.read(path)
        self._sample = list(islice(self._lines, min(SAMPLE_ROWS, source.max_rows or SAMPLE_ROWS)))
        good = [row for _, row in self._sample if isinstance(row, dict)]
        check_columns(path, good, {f"columns.{key}": column for key, column in source.columns.items()})
        check_columns(path, good, {f"slices.{place}": column for place, column in enumerate(source.slices)})
        known = source.format if source.format != "auto" else ""
        renamed = (formats.renamed(row, source.columns) for row in good)
        self.form = known or formats.recognise(renamed, kind) or formats.forms_for(kind)[0]
        theirs = formats.KINDS[self.form]
        if kind not in theirs:
            raise DataError(
                f"{path} holds rows of the form {self.form}, which are for {formats.METHODS[theirs[0]]}; "
                f"this job's method is one of the {formats.METHODS[kind]}\n{allowed(kind)}"
            )

    def rows(self, most: int | None) -> Iterator[tuple[int, Row | None, Fault | str | None]]:
        """Yield line, row, and what is wrong with it if anything is; the row is then as it was read."""
        try:
            yield from self._rows(most)
        except DataError as error:
            raise DataError(self._file.told(str(error))) from error

    def _rows(self, most: int | None) -> Iterator[tuple[int, Row | None, Fault | str | None]]:
        form, kind, system, columns = self.form, self._kind, self._source.system, self._source.columns
        for line, row in islice(chain(self._sample, self._lines), most):
            if isinstance(row, str):
                yield line, None, row
                continue
            try:
                given = formats.renamed(row, columns) if columns else row
                found = formats.normalise(given, form, kind, system=system)
                yield line, formats.sliced(found, row, self._source.slices) if self._source.slices else found, None
            except RowError as error:
                yield line, row, str(error)


def check_columns(path: Path, rows: Sequence[Row], columns: dict[str, str]) -> None:
    """Raise DataError when none of some rows has a column that a key of the dataset names."""
    for key, column in columns.items():
        if rows and not any(column in row for row in rows):
            there = dict.fromkeys(name for row in rows for name in row)
            close = nearest(column, there)
            hint = f" Did you mean {close!r}?" if close else ""
            raise DataError(f"{path}: dataset.{key} = {column!r}: no such column; there is: {listed(there)}.{hint}")


def allowed(kind: Kind) -> str:
    """Return the forms that `kind` trains on, each with an example row."""
    shown = (f"  {form}: {formats.EXAMPLES[form]}" for form in formats.forms_for(kind))
    return "\n".join(["Allowed, one object a line:", *shown])


def count(path: Path) -> tuple[int, bool]:
    """Return how many rows a file has, and whether that is exact: of large packed files and tables it is not."""
    if path.suffix == ".parquet" or readers.is_lines(path):
        return readers.count_rows(path), True
    found = samples.sample(path, max_bytes=_ESTIMATED_BYTES)
    return found.total_rows, found.is_whole


def _not_empty(files: Sequence[DataFile]) -> Sequence[DataFile]:
    """Return the files without the empty ones that programs leave in folders; a single file is kept."""
    if len(files) == 1:
        return files
    return [file for file in files if not file.path.exists() or file.path.stat().st_size] or files


def _title(source: Source, files: Sequence[DataFile]) -> str:
    if isinstance(source.path, str) and len(files) == 1:
        return files[0].told(str(files[0].path))
    return source.path if isinstance(source.path, str) else ", ".join(source.path)
