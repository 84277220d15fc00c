"""How sure a figure is: confidence intervals of one metric, and of its difference between two models.

Proportions have score intervals, which are honest also for 20 right answers of 20; everything else is resampled.

* one proportion: Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927)
* a paired difference of proportions: method 10 of Newcombe, Improved confidence intervals for the difference between
  binomial proportions based on paired data, Statistics in Medicine 17 (1998)
* whether two models differ at all in right and wrong answers: the exact test of McNemar, Note on the sampling error of
  the difference between correlated proportions or percentages, Psychometrika 12 (1947)
* anything else: percentiles of the bootstrap, Efron and Tibshirani, An Introduction to the Bootstrap (1993), ch. 13;
  for a difference the same rows are drawn of both models
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from largeforge.judging.series import Array, Series

CONFIDENCE = 0.95
RESAMPLES = 2000
SEED = 0
LEAST_ROWS = 5
"""Fewer rows than this have no interval: resampling them says nothing."""
_CELLS = 2_000_000
"""Rows that are drawn at once, to bound memory."""


@dataclass(frozen=True)
class Interval:
    """A figure with the range that holds the true one, at the confidence that was asked for."""

    value: float
    low: float
    high: float
    rows: int
    """Rows that it is computed from."""
    method: str
    p_value: float | None = None
    """Of a difference of right and wrong answers: how likely one as large is between equal models."""

    def as_dict(self) -> dict[str, Any]:
        """Return the interval as plain data."""
        return asdict(self)


def of_metric(series: Series, *, confidence: float = CONFIDENCE) -> Interval:
    """Return a metric with its interval; unbounded where there are too few rows."""
    rows, value = series.rows, series.figure()
    if len(rows) < LEAST_ROWS:
        return _unknown(value, len(rows))
    if series.is_binary:
        low, high = wilson(sum(1 for row in rows if series.values[row]), len(rows), confidence=confidence)
        return Interval(value, low, high, len(rows), "Wilson")
    return _resampled(value, rows, series.figures, confidence)


def of_difference(series: Series, baseline: Series, *, confidence: float = CONFIDENCE) -> Interval:
    """Return by how much a metric differs from a baseline's, over the rows that count for both."""
    rows = [row for row in series.rows if row < len(baseline.values) and baseline.values[row] is not None]
    value = series.figure(rows) - baseline.figure(rows)
    if len(rows) < LEAST_ROWS:
        return _unknown(value, len(rows))
    if series.is_binary and baseline.is_binary:
        pairs = [(bool(series.values[row]), bool(baseline.values[row])) for row in rows]
        counts = [pairs.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False))]
        low, high = newcombe(*counts, confidence=confidence)
        return Interval(value, low, high, len(rows), "Newcombe", mcnemar(counts[1], counts[2]))
    return _resampled(value, rows, lambda drawn: series.figures(drawn) - baseline.figures(drawn), confidence)


def wilson(hits: int, rows: int, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the score interval of a proportion."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, extra = hits / rows, z * z / rows
    middle = (share + extra / 2) / (1 + extra)
    half = z / (1 + extra) * math.sqrt(share * (1 - share) / rows + extra / (4 * rows))
    return max(0.0, middle - half), min(1.0, middle + half)


def newcombe(
    both: int, first: int, second: int, neither: int, *, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Return the interval of the difference of two proportions over the same rows.

    The counts are of rows that both, only the first, only the second, and neither of the models have right.
    """
    rows = both + first + second + neither
    one, other = (both + first) / rows, (both + second) / rows
    low_one, high_one = wilson(both + first, rows, confidence=confidence)
    low_other, high_other = wilson(both + second, rows, confidence=confidence)
    correlation = _phi(both, first, second, neither)
    below = _root(one - low_one, high_other - other, correlation)
    above = _root(high_one - one, other - low_other, correlation)
    return one - other - below, one - other + above


def _phi(both: int, first: int, second: int, neither: int) -> float:
    """Return the correlation of both models' right answers, with Newcombe's correction where it is positive."""
    margins = (both + first) * (second + neither) * (both + second) * (first + neither)
    if not margins:
        return 0.0
    cross = float(both * neither - first * second)
    if cross > 0:
        cross = max(cross - (both + first + second + neither) / 2, 0.0)
    return cross / math.sqrt(margins)


def _root(one: float, other: float, correlation: float) -> float:
    return math.sqrt(max(one * one - 2 * correlation * one * other + other * other, 0.0))


def mcnemar(first: int, second: int) -> float:
    """Return the two-sided exact p-value of so unequal counts of rows that only one of two equal models has right."""
    rows, fewer = first + second, min(first, second)
    if not rows:
        return 1.0
    tail: int = sum(math.comb(rows, count) for count in range(fewer + 1))
    return min(1.0, float(2 * tail / 2**rows))


def _unknown(value: float, rows: int) -> Interval:
    return Interval(value, -math.inf, math.inf, rows, "too few rows")


def _resampled(value: float, rows: list[int], figures: Callable[[Array], Array], confidence: float) -> Interval:
    import numpy as np

    random = np.random.default_rng(SEED)
    places = np.asarray(rows)
    at_once = max(1, min(RESAMPLES, _CELLS // len(rows)))
    found: list[float] = []
    while len(found) < RESAMPLES:
        drawn = places[random.integers(0, len(places), size=(min(at_once, RESAMPLES - len(found)), len(places)))]
        found += figures(drawn).tolist()
    finite = np.asarray([figure for figure in found if math.isfinite(figure)])
    if not finite.size:
        return _unknown(value, len(rows))
    low, high = np.quantile(finite, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(value, float(low), float(high), len(rows), "bootstrap")
