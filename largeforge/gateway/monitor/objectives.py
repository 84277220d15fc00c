"""How far objectives are kept: good and all events, as `monitoring/indicators.py` has them in PromQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from largeforge.gateway.metrics import NO_EXPERT
from largeforge.gateway.monitor.reading import Counts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from largeforge.gateway.monitor.reading import Reading
    from largeforge.recipe.sections.slos import Objective

HISTOGRAMS = {"latency": "duration", "ttft": "ttft", "inter_token": "inter_token"}


def kept(
    objectives: Mapping[str, Objective], *, lately: Reading, total: Reading, bounds: Mapping[str, list[float]]
) -> Iterator[dict[str, Any]]:
    """Yield each objective with its value lately and the error budget that is left of all requests since the start;
    of one that experts keep by themselves, once for each."""
    for name, objective in objectives.items():
        for expert in _experts(objective, total):
            good, events = _events(objective, expert, lately, bounds)
            all_good, all_events = _events(objective, expert, total, bounds)
            bad_share = 1 - all_good / all_events if all_events else 0.0
            yield {
                "name": name,
                "expert": expert,
                "indicator": objective.indicator,
                "objective": objective.objective,
                "threshold_ms": objective.threshold_ms,
                "value": good / events if events else None,
                "events": events,
                "value_since_start": all_good / all_events if all_events else None,
                "events_since_start": all_events,
                "budget_left": 1 - bad_share / (1 - objective.objective) if all_events else None,
            }


def _experts(objective: Objective, total: Reading) -> list[str]:
    return sorted(name for name in total.experts if name != NO_EXPERT) if objective.by_expert else [""]


def _events(
    objective: Objective, expert: str, reading: Reading, bounds: Mapping[str, list[float]]
) -> tuple[float, float]:
    """Return good and all events; of all experts where none is named."""
    counts = reading.experts.get(expert, Counts()) if expert else reading.together()
    valid = counts.requests - counts.refused
    match objective.indicator:
        case "availability":
            return valid - counts.failed, valid
        case "fallback":
            return max(0.0, valid - reading.fallbacks), valid
        case "latency" | "ttft" | "inter_token":
            kind = HISTOGRAMS[objective.indicator]
            buckets: list[float] = getattr(counts, kind)
            limit = objective.threshold_ms / 1000
            return sum(n for n, bound in zip(buckets, bounds[kind], strict=False) if bound <= limit), sum(buckets)
        case signal:
            good, bad = counts.quality.get(signal) or (0.0, 0.0)
            return good, good + bad


def quantile(share: float, buckets: list[float], bounds: list[float]) -> float | None:
    """Return a percentile from the counts of a histogram's buckets, interpolated as Prometheus does; the largest bound
    where it lies beyond, None where nothing was counted."""
    rank, below = share * sum(buckets), 0.0
    if not sum(buckets):
        return None
    for place, number in enumerate(buckets):
        if number and below + number >= rank:
            if place >= len(bounds):
                return bounds[-1]
            low = bounds[place - 1] if place else 0.0
            return low + (bounds[place] - low) * max(0.0, rank - below) / number
        below += number
    return bounds[-1]
