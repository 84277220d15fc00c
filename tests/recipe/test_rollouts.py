"""Settings of rollouts: choices, experts with their own, and what cannot be carried out."""

from __future__ import annotations

import pytest

from largeforge.errors import RecipeError
from largeforge.recipe.compose import compose
from largeforge.recipe.sections.resilience import CanaryGuard
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
        ({"experts": {}}, "experts.code.experts"),
        ({"again": True}, "experts.code.again"),
        ({"steps": [0.2, 0.1]}, "experts.code"),
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


DEPLOYED = ("+recipe=deploy_support", "hosts=lab", "rollout=canary")


@pytest.mark.parametrize(
    ("word", "key", "nearest"),
    [
        ("rollout.experts.general.stepz=[0.1]", "rollout.experts.general.stepz", "steps"),
        ("rollout.experts.general.analysis.erors.weight=1", "rollout.experts.general.analysis.erors", "errors"),
        ("rollout.experts.general.analysis.judge.wieght=1", "rollout.experts.general.analysis.judge.wieght", "weight"),
        ("rollout.experts.general.strategy=canry", "rollout.experts.general.strategy", "canary"),
        ("autoscaling.experts.general.in_fligt=0.5", "autoscaling.experts.general.in_fligt", "in_flight"),
        ("deploy.placing.general.spred=none", "deploy.placing.general.spred", "spread"),
        ("deploy.placing.genral.spread=none", "deploy.placing.genral", "general"),
    ],
)  # fmt: skip
def test_a_typo_in_the_settings_of_one_expert_is_told_like_any_other(word: str, key: str, nearest: str) -> None:
    with pytest.raises(RecipeError) as caught:
        validate(compose([*DEPLOYED, word]))
    found = [(problem.where, problem.key, problem.nearest) for problem in caught.value.problems]
    assert found == [("command line", key, nearest)]


def test_an_adapter_is_rolled_out_with_the_server_that_carries_it() -> None:
    with pytest.raises(RecipeError) as caught:
        validate(compose([*DEPLOYED, "rollout.experts.support.steps=[0.1]"]))
    assert "rollout.experts.support = {…}: is carried by the server of general" in str(caught.value)
    assert "say rollout.experts.general," in str(caught.value)


def test_what_an_expert_leaves_out_stays_left_out_when_it_is_written_down() -> None:
    settings = Rollout(min_requests=7, experts={"code": {"analysis": {"errors": {"tolerance": 0.1}}}})
    again = Rollout.model_validate_json(settings.model_dump_json())
    assert again.experts == {"code": {"analysis": {"errors": {"tolerance": 0.1}}}}
    assert again.of("code").min_requests == 7


def test_looks_are_closer_together_than_gateways_wait_for_one() -> None:
    after_s = CanaryGuard().after_s
    assert Rollout(look_s=15).look_s <= after_s / 2
    with pytest.raises(RecipeError, match=r"rollout\.look_s = 16: should be less than or equal to 15"):
        validate(compose([*DEPLOYED, "rollout.look_s=16"]))
    assert f"{after_s:g} s (`gateway.canary_guard.after_s`)" in str(Rollout.model_fields["look_s"].description)
