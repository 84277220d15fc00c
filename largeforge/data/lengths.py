"""Check rendered rows against the model's window, and describe how long they are.

Rendering and tokenizing need the model, so the caller counts: nothing here knows a tokenizer.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from largeforge.data.checks import Problems

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from largeforge.data.formats import Row


@dataclass(frozen=True)
class Lengths:
    """Statistics of row lengths in tokens; all 0 when there are no rows."""

    rows: int
    min: int
    mean: float
    p50: int
    p95: int
    max: int
    total: int


def check(rows: Iterable[Row], count_tokens: Callable[[Row], int], max_length: int) -> Lengths:
    """Return the statistics of all rows.

    Raises DataError that names the rows (by their `source`) that exceed `max_length` tokens.
    """
    lengths = array("q")
    problems = Problems()
    for row in rows:
        length = count_tokens(row)
        lengths.append(length)
        if length > max_length:
            problems.add(row["source"], f"{length} tokens")
    longest = max(lengths, default=0)
    remedy = f"Shorten or remove them, or raise max_length (the longest row needs {longest}) if the model allows it."
    problems.raise_if_any(f"longer than max_length = {max_length} tokens", remedy)
    return describe(lengths)


def describe(lengths: Iterable[int]) -> Lengths:
    """Return the statistics of some lengths; percentiles are nearest-rank, so each is a real length."""
    ordered = sorted(lengths)
    if not ordered:
        return Lengths(rows=0, min=0, mean=0.0, p50=0, p95=0, max=0, total=0)
    count, total = len(ordered), sum(ordered)
    p50, p95 = (ordered[-(-count * percent // 100) - 1] for percent in (50, 95))
    return Lengths(rows=count, min=ordered[0], mean=total / count, p50=p50, p95=p95, max=ordered[-1], total=total)
