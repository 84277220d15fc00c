"""Many rows at once: their tokens as columns, and what is wrong with some of them."""

from __future__ import annotations

import json
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from largeforge.data.faults import RowError
from largeforge.tokens import rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from largeforge.data.formats import Kind, Row
    from largeforge.recipe.training import Learn
    from largeforge.tokens.engine import Engine, Rendered

BATCH_ROWS = 256
"""Rows that are tokenized at once: a few MB."""


@dataclass
class Part:
    """Rows as columns; `columns` has the ids of all rows of a column one after the other, `sizes` how many each has."""

    columns: list[array[int]]
    sizes: list[array[int]]
    flags: array[int] = field(default_factory=lambda: array("b"))
    """The `label` of unpaired rows."""
    lengths: array[int] = field(default_factory=lambda: array("q"))
    """Tokens of the longest sequence of each row, bad rows included where they could be rendered."""
    too_long: list[tuple[str, int]] = field(default_factory=list)
    """Source and tokens of rows that exceed the limit."""
    bad: list[tuple[str, str]] = field(default_factory=list)
    """Source and reason of rows that cannot be used."""
    overhanging: int = 0
    """Rows whose prompt is tokenized differently once the answer follows."""


@dataclass(frozen=True)
class Wanted:
    """What is to be made of rows."""

    kind: Kind
    learn: Learn
    limit: int
    """Most tokens of a row; 0 for no limit, where packing cuts what is too long."""


def tokenize(lines: Iterable[bytes], engine: Engine, wanted: Wanted) -> Part:
    """Return the part that some lines of a prepared file make."""
    names = rows.COLUMNS[wanted.kind]
    part = Part([array("i") for _ in names], [array("q") for _ in names])
    batch: list[tuple[Row, list[Rendered]]] = []
    for line in lines:
        row = json.loads(line)
        try:
            batch.append((row, rows.rendered(engine, row, wanted.kind, wanted.learn)))
        except RowError as error:
            part.bad.append((row["source"], str(error)))
        if len(batch) == BATCH_ROWS:
            _add(part, batch, engine, wanted)
            batch = []
    _add(part, batch, engine, wanted)
    return part


def _add(part: Part, batch: Sequence[tuple[Row, list[Rendered]]], engine: Engine, wanted: Wanted) -> None:
    if not batch:
        return
    encoded = iter(engine.encode([one for _, texts in batch for one in texts]))
    for row, texts in batch:
        tokens = [next(encoded) for _ in texts]
        length = rows.length(tokens)
        part.lengths.append(length)
        part.overhanging += any(one.overhang for one in tokens)
        if wanted.limit and length > wanted.limit:
            part.too_long.append((row["source"], length))
            continue
        try:
            found = rows.columns(tokens, wanted.kind)
        except RowError as error:
            part.bad.append((row["source"], str(error)))
            continue
        for column, sizes, ids in zip(part.columns, part.sizes, found, strict=True):
            column.extend(ids)
            sizes.append(len(ids))
        if wanted.kind == "unpaired":
            part.flags.append(row["label"])
