"""A model's metrics beside those of its baselines: figures, intervals, slices, and where it became worse."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from largeforge.judging.intervals import Interval, of_difference, of_metric
from largeforge.judging.series import Series

Metrics = Mapping[str, Series]


@dataclass(frozen=True)
class Comparison:
    """What was measured of a model and of each baseline, over the same rows."""

    model: Metrics
    baselines: Mapping[str, Metrics] = field(default_factory=dict)
    pairs: Mapping[str, Metrics] = field(default_factory=dict)
    """What was measured of the model and one baseline together, by baseline, such as how often it wins."""
    confidence: float = 0.95

    def intervals(self) -> dict[str, Interval]:
        """Return each metric as `name`, a baseline's as `<baseline>.name`, the difference as `vs_<baseline>.name`."""
        found = {name: of_metric(series, confidence=self.confidence) for name, series in self.model.items()}
        for who, metrics in self.baselines.items():
            for name, series in metrics.items():
                found[f"{who}.{name}"] = of_metric(series, confidence=self.confidence)
            for name in self.shared(who):
                compared = of_difference(self.model[name], metrics[name], confidence=self.confidence)
                found[f"vs_{who}.{name}"] = compared
        for who, metrics in self.pairs.items():
            for name, series in metrics.items():
                found[f"vs_{who}.{name}"] = of_metric(series, confidence=self.confidence)
        return found

    def shared(self, baseline: str) -> list[str]:
        """Return the metrics that a baseline has as well, over the same rows."""
        theirs = self.baselines[baseline]
        return [name for name, series in self.model.items() if name in theirs and series.over == theirs[name].over]

    @property
    def of_rows(self) -> list[str]:
        """The model's metrics over the held-out rows."""
        return [name for name, series in self.model.items() if not series.over]

    def sliced(self, slices: Mapping[str, Sequence[int]]) -> list[list[Any]]:
        """Return for each slice of the held-out rows its name, its rows, and each metric of `of_rows` within it."""
        return [
            [name, len(rows), *(_rounded(self.model[metric].figure(rows)) for metric in self.of_rows)]
            for name, rows in slices.items()
        ]


def regressions(own: Mapping[int, float], baseline: Mapping[int, float], most: int) -> list[int]:
    """Return the rows whose score fell most beneath a baseline's, worst first; both map rows to scores."""
    fallen = [(own[row] - score, row) for row, score in baseline.items() if row in own and own[row] < score]
    return [row for _, row in sorted(fallen)[:most]]


def slices_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Return the places of rows by file, and by each value of the columns that the dataset keeps for this.

    A way to divide the rows that puts all of them together is left out.
    """
    ways: dict[str, dict[str, list[int]]] = {}
    for place, row in enumerate(rows):
        own = {"file": str(row.get("source", "")).rpartition(":")[0], **row.get("slices", {})}
        for way, value in own.items():
            ways.setdefault(way, {}).setdefault(f"{way} {value}", []).append(place)
    divided = {way: found for way, found in ways.items() if len(found) > 1}
    return {name: places for found in divided.values() for name, places in sorted(found.items())}


def _rounded(value: float) -> float | str:
    return round(value, 4) if math.isfinite(value) else ""
