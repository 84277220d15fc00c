"""What to change when a stage ran out of memory although its plan fits: the plan's fixes, for less memory."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from largeforge.forecast.fixes import ranked
from largeforge.forecast.models import Models
from largeforge.forecast.plan import Forecaster, candidates
from largeforge.forecast.text import fixes_text, gib

if TYPE_CHECKING:
    from largeforge.forecast.stage import Forecast
    from largeforge.plan import Plan
    from largeforge.recipe.schema import Recipe

SPARE = 0.8
"""Share of what was planned that the next attempt may need: the plan was too low, and nobody knows by how much."""
_MOST = 4
"""Fixes that are shown."""


def after_shortage(plan: Plan, name: str) -> str:
    """Return what the plan said of a stage that ran out of memory and what needs less; empty when it said nothing."""
    forecast = plan.forecasts.get(name)
    stage = next((stage for stage in plan.stages if stage.name == name), None)
    if forecast is None or forecast.memory is None or stage is None:
        return ""
    planned = f"The plan had {gib(forecast.needed_bytes)} GiB of {gib(forecast.usable_bytes)} GiB that can be used."
    usable = SPARE * min(forecast.needed_bytes, forecast.usable_bytes or forecast.needed_bytes)
    models = Models(plan.recipe)

    def measure(recipe: Recipe) -> Forecast:
        return _limited(Forecaster(recipe, plan.machine, models).of(stage)[name], usable)

    now = _limited(forecast, usable)
    found = ranked(plan.recipe, now, candidates(plan, stage, now), measure)[:_MOST]
    if not found:
        return planned
    return f"{planned} Overrides that need less, each recomputed:\n{fixes_text(found)}"


def _limited(forecast: Forecast, usable_bytes: float) -> Forecast:
    return replace(forecast, usable_bytes=min(usable_bytes, forecast.usable_bytes or usable_bytes))
