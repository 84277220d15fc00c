"""Objectives that cannot be measured and alerts that cannot be raised are refused before anything runs."""

from __future__ import annotations

import pytest

from largeforge.errors import RecipeError
from largeforge.recipe.compose import compose
from largeforge.recipe.folders import shipped_root
from largeforge.recipe.validate import validate

SERVED = ["+recipe=serve_quickstart"]
ONE = "+slo.objectives.one"
RATES = "+slo.burn_rates="


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([f"{ONE}={{indicator: latency, objective: 0.95}}"], r"one\.threshold_ms.*is required: the longest time"),
        (
            [f"{ONE}={{indicator: availability, objective: 0.9, threshold_ms: 3}}"],
            r"one\.threshold_ms.*is for latency, ttft.*availability is no time",
        ),
        ([f"{ONE}={{indicator: availability, objective: 99.9}}"], r"objective = 99\.9: should be less than 1"),
        ([f"{ONE}={{indicator: avalability, objective: 0.9}}"], r"one\.indicator"),
        ([f"{ONE}={{indicator: fallback, objective: 0.9, by_expert: true}}"], r"fallbacks are counted for all"),
        (
            [f"{ONE}={{indicator: fallback, objective: 0.9}}", f"{RATES}[{{budget: 0.02, long_h: 1, short_h: 0.1}}]"],
            r"objective.*so low that no alert .* can be raised",
        ),
        (["+slo.alerts.a={signal: queue}"], r"slo\.alerts\.a.*needs either above or below"),
        (["+slo.alerts.a={signal: queue, above: 1, below: 2}"], r"slo\.alerts\.a.*needs either above or below"),
        (["+slo.alerts.a={signal: queue, above: 5, goal: 9}"], r"a\.goal = 9: must be at most above = 5"),
        (["+slo.alerts.a={signal: gpu_use, below: 0.5, goal: 0.4}"], r"a\.goal = 0\.4: must be at least below = 0\.5"),
        (["+slo.alerts.a={signal: gpu_use, above: 1, by_expert: true}"], r"a\.by_expert.*is for .*gpu_use is of no"),
        ([f"{RATES}[{{budget: 0.1, long_h: 1, short_h: 2}}]"], r"burn_rates\.0\.short_h.*must be under long_h = 1"),
        (["slo=platform", "slo.window_days=2"], r"burn_rates\.3\.long_h.*must be within slo\.window_days = 2"),
        (["+gateway.slo.window_days=3"], r"gateway\.slo.*is filled in from the recipe's own slo"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_its_place(words: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        validate(compose([*SERVED, *words]))


@pytest.mark.parametrize("name", sorted(path.stem for path in (shipped_root() / "conf" / "slo").glob("*.yaml")))
def test_every_choice_is_right_and_called_by_its_name(name: str) -> None:
    assert validate(compose([*SERVED, f"slo={name}"])).slo.name == name
