"""What follows from `slo` for other sections: what a load test must show before anybody depends on it, and what a new
model must keep while it takes over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.recipe.sections.load_test import PERCENTILES, Goodput
from largeforge.recipe.sections.rollouts import COMPARED
from largeforge.recipe.sections.slos import LATENCIES

if TYPE_CHECKING:
    from largeforge.recipe.schema import LoadTest, Targets
    from largeforge.recipe.sections.rollouts import Analysis
    from largeforge.recipe.sections.slos import Objective, Slo

SIGNALS = ("schema_valid", "agreement", "judge", "thumbs")
"""Indicators of quality, which a rollout compares."""
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


def analysis(given: Analysis, slo: Slo) -> Analysis:
    """Return how a canary is judged, with what it leaves to `slo`: a new model may fail, be slow and be wrong as often
    as is promised, unless stable is worse than that as well. Of several objectives the strictest counts."""
    limits = {
        name: value for name, value in _triggers(slo).items() if _trigger(name) not in given.triggers.model_fields_set
    }
    changed: dict[str, object] = {"triggers": given.triggers.model_copy(update=limits)}
    budget = 1 - max((one.objective for one in _of(slo, "availability")), default=0.0)
    if budget < 1 and given.errors.tolerance == COMPARED["errors"]["tolerance"]:
        changed["errors"] = given.errors.model_copy(update={"tolerance": round(budget / 2, 9)})
    for signal in SIGNALS:
        compared, promised = given.compared(signal), [one.objective for one in _of(slo, signal)]
        if promised and compared.floor == COMPARED[signal].get("floor", 0.0):
            changed[signal] = compared.model_copy(update={"floor": max(promised)})
    return given.model_copy(update=changed)


def _triggers(slo: Slo) -> dict[str, float]:
    """Return the fixed limits that objectives mean."""
    found: dict[str, float] = {}
    if available := _of(slo, "availability"):
        found["error_share"] = round(1 - max(one.objective for one in available), 9)
    for indicator in ("latency", "ttft"):
        if promised := _of(slo, indicator):
            strictest = min(promised, key=lambda one: (1 - one.objective, one.threshold_ms))
            found |= {
                f"{indicator}_ms": strictest.threshold_ms,
                f"{indicator}_share": round(1 - strictest.objective, 9),
            }
    return found


def _trigger(name: str) -> str:
    """Return the key that says whether a limit is given: a time and its share are given together."""
    return name.replace("_share", "_ms") if name != "error_share" else name


def _of(slo: Slo, indicator: str) -> list[Objective]:
    return [one for one in slo.objectives.values() if one.indicator == indicator]


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
