"""Read requests with the experts that they belong to, and say what routing makes of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.data.faults import Fault
from largeforge.data.readers import read
from largeforge.errors import DataError, listed, nearest
from largeforge.gateway.examples import example
from largeforge.judging.intervals import Interval, of_metric
from largeforge.judging.series import Series
from largeforge.recipe import routing_files

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from largeforge.gateway.examples import Example
    from largeforge.gateway.routing import Route
    from largeforge.recipe.sections.routing import Files
    from largeforge.stages.context import Context

MOST_SHOWN = 20
"""Wrong routes that are written down as examples, and experts in the table of confusions."""


def read_examples(files: Files, experts: Collection[str]) -> list[Example]:
    """Return the requests in all files.

    Raises DataError with file and line of the first row that is none, or belongs to no expert of the topology.
    """
    found = []
    for expert, path in routing_files.paths(files):
        for line, row in read(Path(path)):
            try:
                if isinstance(row, Fault):
                    raise ValueError(f"cannot be read: {row}")
                request, wanted = example(row, expert=expert)
            except ValueError as error:
                raise DataError(f"{path}:{line}: the row {error}") from None
            if wanted not in experts:
                hint = nearest(wanted, experts)
                rule = f"belongs to {wanted!r}, which is no expert of the topology: {listed(experts)}"
                raise DataError(f"{path}:{line}: the row {rule}" + (f". Did you mean {hint!r}?" if hint else ""))
            found.append((request, wanted))
    return found


def measured(wanted: Sequence[str], routes: Sequence[Route], experts: Collection[str]) -> dict[str, Series]:
    """Return the metrics of routing, row by row."""
    chosen = [route.requested for route in routes]
    pairs = list(zip(wanted, chosen, strict=True))
    found = {
        "accuracy": Series([float(want == got) for want, got in pairs]),
        "decided": Series([float(not route.reason.startswith("default")) for route in routes]),
    }
    for name in experts:
        if name in wanted:
            found[f"recall.{name}"] = Series([float(got == name) if want == name else None for want, got in pairs])
        if name in chosen:
            found[f"precision.{name}"] = Series([float(want == name) if got == name else None for want, got in pairs])
    return found


def intervals(metrics: dict[str, Series], confidence: float) -> dict[str, Interval]:
    """Return each metric with its interval."""
    return {name: of_metric(series, confidence=confidence) for name, series in metrics.items()}


def tell(context: Context, wanted: Sequence[str], routes: Sequence[Route], found: dict[str, Interval]) -> None:
    """Emit a table of the metrics, and one of which experts are taken for which."""
    rows = [[name, one.value, _range(one), one.rows] for name, one in found.items()]
    title = f"{context.stage}: {len(wanted)} held-out requests"
    context.events.emit("table", title=title, columns=["metric", "value", "interval", "requests"], rows=rows)
    counts = confusions(wanted, routes)
    chosen = sorted({route.requested for route in routes})
    if len(counts) <= MOST_SHOWN and len(chosen) <= MOST_SHOWN:
        table = [[name, *(row.get(other, 0) for other in chosen)] for name, row in counts.items()]
        title = f"{context.stage}: the expert that was meant, by row, and the one that was chosen"
        context.events.emit("table", title=title, columns=["meant", *chosen], rows=table)
    else:
        pairs = [(count, name, other) for name, row in counts.items() for other, count in row.items() if name != other]
        worst = [[name, other, count] for count, name, other in sorted(pairs, reverse=True)[:MOST_SHOWN]]
        title = f"{context.stage}: experts that are taken for others"
        context.events.emit("table", title=title, columns=["meant", "chosen", "requests"], rows=worst)


def confusions(wanted: Sequence[str], routes: Sequence[Route]) -> dict[str, dict[str, int]]:
    """Return how many requests for each expert went to which."""
    counts: dict[str, dict[str, int]] = {}
    for name, route in zip(wanted, routes, strict=True):
        row = counts.setdefault(name, {})
        row[route.requested] = row.get(route.requested, 0) + 1
    return dict(sorted(counts.items()))


def mistakes(examples: Sequence[Example], routes: Sequence[Route]) -> list[dict[str, Any]]:
    """Return the first requests that went elsewhere, the surest mistakes first."""
    wrong = [
        {"expert": wanted, "chosen": route.requested, "reason": route.reason, "score": round(route.score, 4),
         "text": request.text[:500]}
        for (request, wanted), route in zip(examples, routes, strict=True)
        if route.requested != wanted
    ]  # fmt: skip
    return sorted(wrong, key=lambda one: -float(str(one["score"])))[:MOST_SHOWN]


def _range(one: Interval) -> str:
    return f"{one.low:.4g} to {one.high:.4g}" if math.isfinite(one.low) and math.isfinite(one.high) else "unknown"
