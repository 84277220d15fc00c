"""Objectives that can be measured, and alerts that can be raised."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from largeforge.errors import Problem, listed
from largeforge.recipe.sections.slos import LATENCIES, OF_REQUESTS

if TYPE_CHECKING:
    from largeforge.recipe.schema import Recipe
    from largeforge.recipe.sections.slos import Objective, Slo, Threshold


def check(recipe: Recipe) -> Iterator[Problem]:
    """Yield what is wrong with a recipe's objectives and alerts."""
    slo = recipe.slo
    if recipe.gateway.slo != type(recipe.gateway)().slo:
        yield Problem("gateway.slo", "is filled in from the recipe's own slo; write it there.")
    for name, objective in slo.objectives.items():
        yield from _objective(f"slo.objectives.{name}", objective)
    for index, alert in enumerate(slo.burn_rates):
        if alert.short_h >= alert.long_h:
            yield Problem(f"slo.burn_rates.{index}.short_h", f"must be under long_h = {alert.long_h:g}.")
        if alert.long_h > slo.window_days * 24:
            rule = f"must be within slo.window_days = {slo.window_days:g}."
            yield Problem(f"slo.burn_rates.{index}.long_h", rule)
    for name, threshold in slo.alerts.items():
        yield from _threshold(f"slo.alerts.{name}", threshold)
    yield from _unreachable(slo)


def _objective(key: str, objective: Objective) -> Iterator[Problem]:
    is_latency = objective.indicator in LATENCIES
    if is_latency and not objective.threshold_ms:
        yield Problem(f"{key}.threshold_ms", f"is required: the longest time that is good ({objective.indicator}).")
    if not is_latency and objective.threshold_ms:
        yield Problem(f"{key}.threshold_ms", f"is for {listed(LATENCIES)}; {objective.indicator} is no time.")
    if objective.indicator == "fallback" and objective.by_expert:
        yield Problem(f"{key}.by_expert", "fallbacks are counted for all experts together.")


def _threshold(key: str, threshold: Threshold) -> Iterator[Problem]:
    if (threshold.above is None) == (threshold.below is None):
        yield Problem(key, "needs either above or below.")
    elif threshold.goal is not None:
        limit, sign = (threshold.above, 1) if threshold.above is not None else (threshold.below, -1)
        if limit is not None and (limit - threshold.goal) * sign < 0:
            side = f"at most above = {limit:g}" if sign > 0 else f"at least below = {limit:g}"
            yield Problem(
                f"{key}.goal", f"must be {side}: it is what is better than that.", given=f"{threshold.goal:g}"
            )
    if threshold.by_expert and threshold.signal not in OF_REQUESTS:
        yield Problem(f"{key}.by_expert", f"is for {listed(OF_REQUESTS)}; {threshold.signal} is of no expert.")


def _unreachable(slo: Slo) -> Iterator[Problem]:
    """Yield burn rates that no share of bad events reaches."""
    for name, objective in slo.objectives.items():
        burning = [alert for alert in slo.burn_rates if alert.rate(slo.window_days) * (1 - objective.objective) < 1]
        if slo.burn_rates and not burning:
            rule = (
                "is so low that no alert of slo.burn_rates can be raised: not even if every event is bad. "
                "Raise it, or give a burn rate with a smaller budget."
            )
            yield Problem(f"slo.objectives.{name}.objective", rule, given=f"{objective.objective:g}")
