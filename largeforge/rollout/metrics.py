"""What is tested of a canary: each metric as counts of bad requests, and what is tolerated of it. Pure.

A percentile becomes a share: p99 is above 500 ms when more than 1 % of the requests take longer, and above stable's
when more than 1 % take longer than 99 % of stable's. Which edge of a histogram that is follows from what stable did
*before* the counts that are tested, or the test would choose its own evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from largeforge.rollout.observations import SIGNALS, Arm, Histogram, Observation
from largeforge.rollout.sequential import Counts, Tolerated, upper_bound

if TYPE_CHECKING:
    from largeforge.recipe.sections.rollouts import Analysis

TIMES = {"latency_p95": ("duration", 0.05), "latency_p99": ("duration", 0.01), "ttft_p95": ("ttft", 0.05)}
"""Metric of time to its histogram and the share of requests beyond its percentile."""
LIMITS = {"error_share": "errors", "latency": "latency_p99", "ttft": "ttft_p95"}
"""Test of a fixed limit to the metric that it takes half of the weight from."""
_TRIGGER_MARGIN = 0.0005
_LEARNT = 200
"""Requests of stable that its percentiles are taken from at least."""
_ALPHA_BEFORE = 0.01
"""Of the upper bound of what stable did before, where nothing of it is there at the same time."""


@dataclass(frozen=True)
class Test:
    """One test, and its part of what `alpha` allows."""

    name: str
    metric: str
    """The metric whose settings it has."""
    weight: float

    __test__ = False  # for pytest, which takes the name for a class of tests


@dataclass(frozen=True)
class Sample:
    """What one test sees of a period."""

    canary: Counts
    stable: Counts
    tolerated: Tolerated
    stable_before: Counts | None = None
    """What stable's share is to be guessed from, where that is not what the test has seen itself."""
    edge_s: float = 0.0
    """Seconds beyond which a request counts as bad, of tests of times."""


def tests(settings: Analysis) -> list[Test]:
    """Return all tests with weights that add up to 1; they must be the same for a whole rollout."""
    weights: dict[str, tuple[str, float]] = {}
    for metric in ("errors", *TIMES, *SIGNALS):
        weight = settings.compared(metric).weight
        if not weight or (metric in SIGNALS and not settings.triggers.quality):
            continue
        limit = next((name for name, of in LIMITS.items() if of == metric and _is_apart(settings, name)), "")
        weights[metric] = (metric, weight / 2 if limit else weight)
        if limit:
            weights[limit] = (metric, weight / 2)
    total = sum(weight for _, weight in weights.values())
    return [Test(name, metric, weight / total) for name, (metric, weight) in weights.items()]


def sample(
    settings: Analysis, test: Test, period: Observation, before: Arm, *, alone: bool = False, edge_s: float = 0.0
) -> Sample | None:
    """Return what a test sees of a period; None where that says nothing.

    `before` is all that was seen of stable earlier; `edge_s` keeps to an edge of a histogram. `alone` is a canary that
    has all of the traffic: it is held against limits and against what stable did before.
    """
    compared = settings.compared(test.metric)
    edge_s = edge_of(settings, test, period.canary, before, edge_s) if test.metric in TIMES else 0.0
    if test.metric in TIMES and not edge_s:
        return None
    ours, theirs, earlier = (count(arm, test.metric, edge_s) for arm in (period.canary, period.stable, before))
    if test.metric == "agreement" and not (theirs.total or earlier.total):
        return _against(ours, 1 - compared.floor if compared.floor else 0.0)
    if alone:
        return _against(ours, _alone(settings, test, earlier), edge_s)
    if test.name == "error_share":
        tolerated = Tolerated(1.0, _TRIGGER_MARGIN, settings.triggers.error_share)
    else:
        tolerated = Tolerated(compared.ratio, compared.tolerance, slow_share(settings, test))
    return Sample(ours, theirs, tolerated, earlier if test.metric in TIMES else None, edge_s)


def count(arm: Arm, metric: str, edge_s: float = 0.0) -> Counts:
    """Return the bad requests of a side by a metric; of times those beyond an edge."""
    if metric == "errors":
        return Counts(arm.errors, arm.requests)
    if metric in TIMES:
        histogram: Histogram | None = getattr(arm, TIMES[metric][0])
        known = histogram is not None and edge_s in histogram.edges
        return histogram.slower(histogram.edges.index(edge_s)) if histogram and known else Counts()
    graded: Counts = getattr(arm, metric).counts
    return graded


def edge_of(settings: Analysis, test: Test, canary: Arm, before: Arm, edge_s: float = 0.0) -> float:
    """Return the seconds beyond which a request counts as slow for a test of times; 0 where that is not known."""
    name, share = TIMES[test.metric]
    histogram: Histogram | None = getattr(canary, name)
    if histogram is None or edge_s in histogram.edges:
        return edge_s if histogram else 0.0
    if slow_share(settings, test):
        edge = histogram.edge_from(getattr(settings.triggers, f"{test.name}_ms") / 1000)
        return 0.0 if edge is None else histogram.edges[edge]
    known: Histogram | None = getattr(before, name)
    if known is None or known.edges != histogram.edges or known.total < _LEARNT:
        return 0.0
    edge = known.edge_near(share)
    return 0.0 if edge is None else known.edges[edge]


def slow_share(settings: Analysis, test: Test) -> float:
    """Return the share of requests that may be slower than the limit of a test; 0 for a test that has none of time."""
    is_limit = test.metric in TIMES and test.name in LIMITS
    share: float = getattr(settings.triggers, f"{test.name}_share") if is_limit else 0.0
    return share


def _against(counts: Counts, limit: float, edge_s: float = 0.0) -> Sample | None:
    """Return a sample that a fixed share is tolerated of; None without one."""
    if not limit or not counts.total:
        return None
    return Sample(counts, Counts(), Tolerated(0.0, min(limit, 1.0)), edge_s=edge_s)


def _alone(settings: Analysis, test: Test, earlier: Counts) -> float:
    """Return the largest share that is tolerated without stable beside it; 0 where nothing is known."""
    compared = settings.compared(test.metric)
    if test.metric in TIMES and not slow_share(settings, test):
        return 0.0  # times change with the load, which is another one now
    limit = settings.triggers.error_share if test.metric == "errors" else 1 - compared.floor if compared.floor else 0.0
    limit = slow_share(settings, test) or limit
    if earlier.total < max(1, compared.min_samples):
        return limit
    return max(limit, compared.ratio * upper_bound(earlier, _ALPHA_BEFORE) + compared.tolerance)


def _is_apart(settings: Analysis, name: str) -> bool:
    """Return whether a limit can find what the comparison with stable does not: a share beyond the limit and above
    stable's is above stable's already."""
    if name != "error_share":
        return bool(getattr(settings.triggers, f"{name}_ms"))
    errors = settings.errors
    return bool(settings.triggers.error_share) and (errors.ratio > 1 or errors.tolerance > _TRIGGER_MARGIN)
