"""What a new recipe's data holds: the form of its rows and how many there are."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from largeforge.data import checks
from largeforge.data.formats import EXAMPLES, KINDS, recognise
from largeforge.data.readers import read
from largeforge.errors import DataError
from largeforge.files import content

if TYPE_CHECKING:
    from largeforge.data.formats import Kind

_LOOKED_AT = 200
"""Rows whose form is looked at."""


@dataclass(frozen=True)
class Found:
    """Form of the rows, the kinds of methods that train on them, and their number."""

    form: str
    kinds: tuple[str, ...]
    num_rows: int
    is_exact: bool
    """Whether rows were counted; those of large packed files and tables are estimated."""


def look_into(path: str, kind: Kind = "sft") -> Found | None:
    """Return what files hold, judged by the first rows of the first; in case of doubt what a method on `kind` takes.

    None where they lie elsewhere and are not here yet. Raises DataError when they cannot be found or read, or
    when the rows have no form that can be trained on.
    """
    files = content.local_files(path)
    if files is None:
        return None
    rows = [row for _, row in islice(read(files[0].path), _LOOKED_AT) if isinstance(row, dict)]
    form = recognise(rows, kind)
    if not form:
        forms = "\n".join(f"  {example}" for example in EXAMPLES.values())
        raise DataError(f"{path}: the first rows have no form that can be trained on; a row is one of\n{forms}")
    counts = [checks.count(file.path) for file in files]
    return Found(form, KINDS[form], sum(rows for rows, _ in counts), all(exact for _, exact in counts))
