"""How long rows are, as few numbers and as a small table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from array import array

COLUMNS = ["characters", "rows", "share"]
_BINS = 8


def metrics(lengths: array[int], name: str) -> dict[str, float]:
    """Return median, 95th percentile (nearest rank) and maximum; nothing for no rows."""
    import numpy

    if not len(lengths):
        return {}
    ordered = numpy.sort(numpy.frombuffer(lengths, "u8"))
    found = {f"p{percent}": ordered[-(-len(ordered) * percent // 100) - 1] for percent in (50, 95)}
    return {f"{name}_{key}": float(value) for key, value in {**found, "max": ordered[-1]}.items()}


def table(lengths: array[int]) -> list[list[str | int | float]]:
    """Return the rows of a histogram: at most eight ranges, each twice as wide as the one before."""
    import numpy

    values = numpy.frombuffer(lengths, "u8")
    first = max(16, 1 << max(0, int(values.max()).bit_length() - _BINS + 1))
    edges = [0, *(first << power for power in range(_BINS))]
    counts, _ = numpy.histogram(values, [*edges[:-1], 2**63])
    rows: list[list[str | int | float]] = []
    for low, high, count in zip(edges, edges[1:], counts.tolist(), strict=False):
        if count or rows:
            rows.append([f"{low} to {high - 1}", count, f"{count / len(values):.1%}"])
    while rows and not rows[-1][1]:
        rows.pop()
    return rows
