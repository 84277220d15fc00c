"""Describe how long rows are in tokens, and say which ones are longer than allowed.

Tokenizing needs the model, so the caller counts: nothing here knows a tokenizer.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from largeforge.data.bad_rows import Problems

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NUM_BINS = 8
"""Most bins of a histogram; their edges are powers of two, or half-way between."""


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


def refuse(too_long: Iterable[tuple[str, int]], max_length: int, longest: int) -> None:
    """Raise DataError that names the rows, given as source and tokens, that exceed `max_length`; nothing if none do."""
    problems = Problems()
    for source, length in too_long:
        problems.add(source, f"{length} tokens")
    remedy = f"Shorten or remove them, or raise max_length (the longest row needs {longest}) if the model allows it."
    problems.raise_if_any(f"longer than max_length = {max_length} tokens", remedy)


def describe(lengths: Iterable[int]) -> Lengths:
    """Return the statistics of some lengths; percentiles are nearest-rank, so each is a real length."""
    ordered = sorted(lengths)
    if not ordered:
        return Lengths(rows=0, min=0, mean=0.0, p50=0, p95=0, max=0, total=0)
    count, total = len(ordered), sum(ordered)
    p50, p95 = (ordered[-(-count * percent // 100) - 1] for percent in (50, 95))
    return Lengths(rows=count, min=ordered[0], mean=total / count, p50=p50, p95=p95, max=ordered[-1], total=total)


def histogram(lengths: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return `(from, to, rows)` of a few bins, both ends included; they cover all lengths."""
    if not lengths:
        return []
    smallest, largest = min(lengths), max(lengths)
    edges = [0, 1, 2, 3]
    while edges[-1] < largest:
        edges.append(edges[-2] * 2)  # 2, 3, 4, 6, 8, 12, 16, …
    bins = [(low + 1, high) for low, high in pairwise([-1, *edges]) if high >= smallest and low < largest]
    while len(bins) > NUM_BINS:
        bins = [(pair[0][0], pair[-1][1]) for pair in (bins[place : place + 2] for place in range(0, len(bins), 2))]
    counts = [0] * len(bins)
    ends = [high for _, high in bins]
    for length in lengths:
        counts[bisect_left(ends, length)] += 1
    return [(low, high, count) for (low, high), count in zip(bins, counts, strict=True)]
