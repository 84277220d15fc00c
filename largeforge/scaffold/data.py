"""What a new recipe's data file holds: the form of its rows and how many there are."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from largeforge.data.formats import EXAMPLES, KINDS, recognise
from largeforge.data.readers import count_rows, read
from largeforge.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from largeforge.data.formats import Kind

_LOOKED_AT = 200
"""Rows whose form is looked at."""


@dataclass(frozen=True)
class Found:
    """Form of the rows, the kinds of methods that train on them, and their number."""

    form: str
    kinds: tuple[str, ...]
    num_rows: int


def look_into(path: Path, kind: Kind = "sft") -> Found:
    """Return what a file holds, judged by its first rows; in case of doubt what a method on `kind` takes.

    Raises DataError when it cannot be read or when its rows have no form that can be trained on.
    """
    rows = [row for _, row in islice(read(path), _LOOKED_AT) if isinstance(row, dict)]
    form = recognise(rows, kind)
    if not form:
        forms = "\n".join(f"  {example}" for example in EXAMPLES.values())
        raise DataError(f"{path}: the first rows have no form that can be trained on; a row is one of\n{forms}")
    return Found(form, KINDS[form], count_rows(path))
