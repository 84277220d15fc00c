"""A metric row by row, and how its rows come together in one figure.

Everything that is said of a metric later (its interval, its difference from a baseline, its value in a slice) is
computed from a selection of these rows, so an evaluator reports rows and not means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

Kind = Literal["mean", "exp_mean", "auc", "p50", "p95"]
_QUANTILES = {"p50": 0.5, "p95": 0.95}


@dataclass(frozen=True)
class Series:
    """One metric of one model.

    `values` are in the order of the rows, None for a row that does not count. A `mean` is weighted by `weights`
    (equal where they are empty), such as the tokens of a row; an `exp_mean` is exp of that, such as perplexity. An
    `auc` is the share of pairs of a labelled and an unlabelled row in which the labelled one has the higher value,
    equal ones counting half; `weights` are then the labels, 1 or 0. `p50` and `p95` are percentiles, such as of
    latencies.
    """

    values: Sequence[float | None]
    weights: Sequence[float] = field(default=())
    kind: Kind = "mean"
    over: str = ""
    """What the rows are, where they are not the held-out ones: only series over the same rows can be compared."""

    @property
    def rows(self) -> list[int]:
        """Places of the rows that count."""
        return [place for place, value in enumerate(self.values) if value is not None]

    @property
    def is_binary(self) -> bool:
        """Whether each row is right or wrong, so that the figure is a proportion."""
        return self.kind == "mean" and not self.weights and all(value in (0.0, 1.0, None) for value in self.values)

    def figure(self, rows: Sequence[int] | None = None) -> float:
        """Return the metric of some rows, all that count by default; NaN where that is none."""
        chosen = self.rows if rows is None else [row for row in rows if self.values[row] is not None]
        if not chosen:
            return float("nan")
        import numpy as np

        return float(self.figures(np.asarray([chosen]))[0])

    def figures(self, rows: Array) -> Array:
        """Return the metric of each of many selections: `rows` is (selections, rows each), of rows that count."""
        import numpy as np

        values = np.asarray([np.nan if value is None else value for value in self.values], dtype=np.float64)[rows]
        if self.kind in _QUANTILES:
            quantiles: Array = np.quantile(values, _QUANTILES[self.kind], axis=-1)
            return quantiles
        weights = np.asarray(self.weights, dtype=np.float64)[rows] if self.weights else np.ones_like(values)
        if self.kind == "auc":
            return _areas(values, weights > 0)
        totals = weights.sum(axis=-1)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            means: Array = (values * weights).sum(axis=-1) / totals
            found: Array = np.exp(means) if self.kind == "exp_mean" else means
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return the series as plain data."""
        plain = {"kind": self.kind, "values": list(self.values), "weights": list(self.weights)}
        return {**plain, "over": self.over} if self.over else plain


def read(plain: Mapping[str, Any]) -> Series:
    """Return a series from plain data."""
    return Series(tuple(plain["values"]), tuple(plain["weights"]), plain["kind"], plain.get("over", ""))


def _areas(values: Array, labels: Array) -> Array:
    """Return the area under the ROC curve of each selection, from mean ranks; NaN where a label is missing.

    Hanley and McNeil, The meaning and use of the area under a ROC curve, Radiology 143 (1982).
    """
    import numpy as np

    areas = np.full(values.shape[0], np.nan)
    for place, (found, wanted) in enumerate(zip(values, labels, strict=True)):
        positives, negatives = int(wanted.sum()), int((~wanted).sum())
        if positives and negatives:
            _, group, counts = np.unique(found, return_inverse=True, return_counts=True)
            ranks = (np.cumsum(counts) - (counts - 1) / 2)[group]
            areas[place] = (ranks[wanted].sum() - positives * (positives + 1) / 2) / (positives * negatives)
    return areas
