"""What to change when a stage ran out of memory although its plan fits: the plan's fixes, for less memory."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from largeforge.estimate.memory import GIB
from largeforge.forecast.fixes import ranked
from largeforge.forecast.models import Models
from largeforge.forecast.plan import Forecaster, candidates
from largeforge.forecast.stage import UNCERTAINTY
from largeforge.forecast.text import gib

if TYPE_CHECKING:
    from largeforge.forecast.fixes import Fix
    from largeforge.forecast.stage import Forecast
    from largeforge.plan import Plan
    from largeforge.recipe.schema import Recipe

SPARE = 0.8
"""Share of what was planned that the next attempt may need: the plan was too low, and nobody knows by how much."""
_MOST = 4
"""Fixes that are shown."""


def after_shortage(plan: Plan, name: str, *, reached_gib: float = 0.0) -> str:
    """Return what the plan said of a stage that ran out of memory and what needs less; empty when it said nothing.

    `reached_gib` is what the stage had then, 0 where that is not known.
    """
    forecast = plan.forecasts.get(name)
    stage = next((stage for stage in plan.stages if stage.name == name), None)
    if forecast is None or forecast.memory is None or stage is None:
        return ""
    lines = [f"The plan had {gib(forecast.needed_bytes)} GiB of {gib(forecast.usable_bytes)} GiB that can be used."]
    if 0 < reached_gib * GIB < forecast.needed_bytes / (1 + UNCERTAINTY):
        lines[0] += " It did not get that much: other programs have the rest, or a limit is set (ulimit, cgroup)."
    usable = SPARE * min(forecast.needed_bytes, forecast.usable_bytes or forecast.needed_bytes)
    models = Models(plan.recipe)

    def measure(recipe: Recipe) -> Forecast:
        return _limited(Forecaster(recipe, plan.machine, models).of(stage)[name], usable)

    now = _limited(forecast, usable)
    if found := ranked(plan.recipe, now, candidates(plan, stage, now), measure)[:_MOST]:
        width = max(len(str(fix.change)) for fix in found)
        lines += ["Overrides that need less, each recomputed; what was trained begins anew with them:"]
        lines += [f"  {fix.change!s:<{width}}  {_need(fix)}" for fix in found]
    return "\n".join(lines)


def _need(fix: Fix) -> str:
    effect = f" ({fix.change.effect})" if fix.change.effect else ""
    return f"{gib(fix.forecast.needed_bytes)} GiB, {gib(fix.saves_bytes)} less{effect}"


def _limited(forecast: Forecast, usable_bytes: float) -> Forecast:
    return replace(forecast, usable_bytes=min(usable_bytes, forecast.usable_bytes or usable_bytes))
