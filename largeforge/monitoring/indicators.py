"""What an objective counts: all events, and the bad ones among them, as PromQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.monitoring import names
from largeforge.monitoring.names import equals, or_zero, rate

if TYPE_CHECKING:
    from largeforge.recipe.sections.slos import Objective

HISTOGRAMS = {"latency": names.DURATION, "ttft": names.TTFT, "inter_token": names.INTER_TOKEN}


def events(objective: Objective, window: str, where: str) -> str:
    """Return all events per second over a window; `where` selects the deployment."""
    by = by_labels(objective)
    match objective.indicator:
        case "availability" | "fallback":
            return rate(names.REQUESTS, window, where, names.VALID, by=by)
        case "latency" | "ttft" | "inter_token":
            return rate(f"{HISTOGRAMS[objective.indicator]}_count", window, where, by=by)
        case signal:
            return rate(names.QUALITY, window, where, equals("signal", signal), by=by)


def bad(objective: Objective, window: str, where: str) -> str:
    """Return the bad events per second over a window, 0 where there are only good ones."""
    by, every = by_labels(objective), events(objective, window, where)
    match objective.indicator:
        case "availability":
            return or_zero(rate(names.REQUESTS, window, where, names.FAILED, by=by), every)
        case "fallback":
            return or_zero(rate(names.FALLBACKS, window, where, by=by), every)
        case "latency" | "ttft" | "inter_token":
            within = equals("le", names.bound(objective.threshold_ms))
            return f"({every} - {rate(f'{HISTOGRAMS[objective.indicator]}_bucket', window, where, within, by=by)})"
        case signal:
            wrong = rate(names.QUALITY, window, where, equals("signal", signal), equals("good", "false"), by=by)
            return or_zero(wrong, every)


def by_labels(objective: Objective) -> tuple[str, ...]:
    """Return the labels that an objective is kept by."""
    return ("expert",) if objective.by_expert else ()
