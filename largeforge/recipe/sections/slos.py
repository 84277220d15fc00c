"""What a deployment promises, and when somebody is told that it does not keep it.

An objective is a share of good events over a window. All else follows from it: recording and alert rules, panels, gates
of the load test, the limits of a canary, and when an autoscaler adds servers.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from largeforge.recipe.base import Name, Strict

Indicator = Literal[
    "availability", "latency", "ttft", "inter_token", "fallback", "schema_valid", "thumbs", "judge", "agreement"
]
LATENCIES = ("latency", "ttft", "inter_token")
"""Indicators that count what is within `threshold_ms`."""
Severity = Literal["page", "ticket", "info"]
Signal = Literal[
    "latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "latency_p95_vs_day_before", "ttft_p95_ms", "ttft_p99_ms",
    "inter_token_p95_ms", "error_share", "errors_per_s", "availability", "requests_per_s", "fallback_share",
    "schema_valid_share", "quality_vs_week_before", "cost_per_token_vs_week_before", "queue", "servers_down",
    "model_load_s", "vllm_cache_use", "prefix_cache_hit_share", "gpu_use", "gpu_memory_use", "disk_free_share",
]  # fmt: skip
OF_REQUESTS: tuple[Signal, ...] = (
    "latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "latency_p95_vs_day_before", "ttft_p95_ms", "ttft_p99_ms",
    "inter_token_p95_ms", "error_share", "errors_per_s", "availability", "requests_per_s", "schema_valid_share",
    "quality_vs_week_before", "queue",
)  # fmt: skip
"""Signals that each expert has by itself."""
Hours = Annotated[float, Field(gt=0, le=24 * 90)]


class Objective(Strict):
    """A share of events that are to be good."""

    indicator: Indicator
    """What is counted. `availability`: requests that the deployment did not fail (a status of 500 or more), of those
    that were right (no 4xx). `latency`: whole answers, `ttft`: first tokens, `inter_token`: gaps between tokens within
    `threshold_ms`. `fallback`: requests that the chosen expert answered itself. `schema_valid`: answers that keep to
    the JSON schema that was asked for. `thumbs`: good ones among the ratings sent to `/v1/feedback`; `judge`: good ones
    among sampled answers; `agreement`: answers that a shadow agrees with."""
    objective: float = Field(gt=0, lt=1)
    """Share of events that are good, such as 0.999; of a latency this is the percentile: 0.95 for p95."""
    threshold_ms: float = Field(default=0, ge=0)
    """Longest time that is good; required of latencies, and of them alone."""
    by_expert: bool = False
    """Whether each expert must keep it by itself, rather than all together."""


class BurnRate(Strict):
    """One alert of every objective: so much of the error budget is used up within so short a time."""

    budget: float = Field(gt=0, le=1)
    """Share of the window's error budget that is used up within `long_h` when the alert is raised."""
    long_h: Hours
    """Hours over which it must be burning."""
    short_h: Hours
    """Hours over which it must still be burning, so that the alert ends soon after the fault."""
    severity: Severity = "page"
    """Who is told."""

    def rate(self, window_days: float) -> float:
        """Return how many times as fast as it may the budget is used up when the alert is raised."""
        return self.budget * window_days * 24 / self.long_h


class Threshold(Strict):
    """An alert on one number as it is now; raised when it is above or below for long enough."""

    signal: Signal
    """What is looked at, over the last five minutes. Shares are from 0 to 1; `…_vs_…_before` is the ratio to the same
    time then, against a week before of a whole day; `queue` is requests that wait, `servers_down` those without an
    answer to their health probe, `model_load_s` the longest that a server took, in the last hour, from its start to
    serving its models. `cost_per_token_…` is GPU hours (hours of model servers where no GPU is measured) by tokens:
    what a token costs, at the same price of an hour."""
    above: float | None = None
    """Raised above this."""
    below: float | None = None
    """Raised below this."""
    goal: float | None = None
    """What the number should be on the good side of; its panel shows it, and nobody is told."""
    for_s: float = Field(default=300, ge=0)
    """Seconds that it must last."""
    severity: Severity = "ticket"
    """Who is told."""
    by_expert: bool = False
    """Whether each expert is looked at by itself; only of signals of requests."""


GOOGLE = (
    BurnRate(budget=0.02, long_h=1, short_h=5 / 60, severity="page"),
    BurnRate(budget=0.05, long_h=6, short_h=0.5, severity="page"),
    BurnRate(budget=0.1, long_h=24, short_h=2, severity="ticket"),
    BurnRate(budget=0.1, long_h=72, short_h=6, severity="ticket"),
)
"""Beyer et al., The Site Reliability Workbook, 2018, chapter 5, table 5-8 (burn rates of 14.4, 6, 3 and 1 over 30
days)."""


class Slo(Strict):
    """What the deployment promises."""

    name: str = "none"
    """Name of the choice under `conf/slo/`."""
    window_days: float = Field(default=30, gt=0, le=90)
    """Days over which objectives hold, rolling."""
    objectives: dict[Name, Objective] = {}
    """Objectives by name."""
    burn_rates: tuple[BurnRate, ...] = GOOGLE
    """Alerts that each objective gets, the most urgent first."""
    min_events: int = Field(default=20, ge=0)
    """Events over an alert's longer window without which it is not raised: of three requests one may fail."""
    alerts: dict[Name, Threshold] = {}
    """Further alerts by name, on numbers as they are."""

    def thresholds_ms(self) -> dict[str, list[float]]:
        """Return the times that must be told apart, by the indicator that is measured."""
        found: dict[str, set[float]] = {}
        for objective in self.objectives.values():
            if objective.indicator in LATENCIES:
                found.setdefault(objective.indicator, set()).add(objective.threshold_ms)
        return {indicator: sorted(times) for indicator, times in sorted(found.items())}
