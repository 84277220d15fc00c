"""Settings of rollouts: choices, experts with their own, and what cannot be carried out."""

from __future__ import annotations

import pytest

from largeforge.errors import RecipeError
from largeforge.recipe.compose import compose
from largeforge.recipe.sections.rollouts import Rollout
from largeforge.recipe.validate import validate

SERVED = "+recipe=serve_quickstart"


def test_an_expert_has_the_settings_of_all_but_for_its_own() -> None:
    settings = Rollout(
        strategy="blue_green",
        analysis={"errors": {"weight": 0.3}, "alpha": 0.02},
        experts={"code": {"strategy": "shadow", "analysis": {"errors": {"tolerance": 0.1}}}},
    )
    code, chat = settings.of("code"), settings.of("chat")
    assert (code.strategy, chat.strategy) == ("shadow", "blue_green")
    assert (code.analysis.alpha, code.analysis.errors.weight, code.analysis.errors.tolerance) == (0.02, 0.3, 0.1)
    assert chat.analysis == settings.analysis
    assert not code.experts


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"steps": [2]}, "experts.code.steps.0"),
        ({"stepps": [1]}, "experts.code.stepps"),
        ({"experts": {}}, "has no experts of its own"),
        ({"analysis": {"triggers": {"error_share": 2}}}, "experts.code.analysis.triggers.error_share"),
    ],
)
def test_what_is_wrong_of_one_expert_is_named(other: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Rollout(experts={"code": other})


@pytest.mark.parametrize("strategy", ["canary", "blue_green", "shadow", "ab"])
def test_all_but_immediate_need_hosts(strategy: str) -> None:
    with pytest.raises(RecipeError, match="needs hosts to be rolled out on"):
        validate(compose([SERVED, f"rollout={strategy}"]))
    assert validate(compose([SERVED])).rollout.strategy == "immediate"


def test_an_expert_that_is_not_there_is_told_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"rollout\.experts\.generall.*general"):
        validate(compose([SERVED, "+rollout.experts.generall.strategy=immediate"]))
