"""What follows from `slo` for other sections: what a load test must show, before anybody depends on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.recipe.sections.load_test import PERCENTILES, Goodput
from largeforge.recipe.sections.slos import LATENCIES

if TYPE_CHECKING:
    from largeforge.recipe.schema import LoadTest, Targets
    from largeforge.recipe.sections.slos import Objective, Slo

MEASURED = {"latency": "e2e", "ttft": "ttft", "inter_token": "inter_token"}
"""Latencies as a load test calls them, by indicator."""


def load_test(given: LoadTest, targets: Targets, slo: Slo) -> LoadTest:
    """Return a load test with what it leaves to `serving.targets` and to `slo`; what it says itself counts."""
    whole = given.completed(targets)
    goodput = whole.slo if whole.slo.is_given else _goodput(slo)
    return whole.model_copy(update={"gates": {**gates(slo), **whole.gates}, "slo": goodput})


def gates(slo: Slo) -> dict[str, str]:
    """Return the gates on metrics of a load test that objectives mean; of several the strictest."""
    limits: dict[str, float] = {}
    for objective in slo.objectives.values():
        for metric, limit in _limit(objective):
            limits[metric] = min(limit, limits.get(metric, limit))
    return {metric: f"<= {limit:.6g}" for metric, limit in limits.items()}


def _limit(objective: Objective) -> list[tuple[str, float]]:
    if objective.indicator == "availability":
        return [("error_share", 1 - objective.objective)]
    if objective.indicator in LATENCIES:
        return [(f"{MEASURED[objective.indicator]}_p{percentile(objective.objective)}_ms", objective.threshold_ms)]
    return []


def percentile(share: float) -> int:
    """Return the percentile that a load test measures which a share of good events implies: the highest up to it."""
    return max((known for known in PERCENTILES if known <= share * 100 + 1e-9), default=PERCENTILES[0])


def _goodput(slo: Slo) -> Goodput:
    """Return what one request must meet to count as goodput; nothing where no latency is promised."""
    promised = [one for one in slo.objectives.values() if one.indicator in LATENCIES]
    if not promised:
        return Goodput()
    times = {f"{MEASURED[indicator]}_ms": times[0] for indicator, times in slo.thresholds_ms().items()}
    return Goodput(**times, share=min(one.objective for one in promised))
