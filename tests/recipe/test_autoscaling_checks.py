"""Autoscaling that cannot be carried out is refused before anything runs; experts keep what the section says."""

from __future__ import annotations

import pytest

from largeforge.errors import RecipeError
from largeforge.recipe.compose import compose
from largeforge.recipe.folders import shipped_root
from largeforge.recipe.schema import Autoscaling, Recipe
from largeforge.recipe.validate import validate

DEPLOYED = ["+recipe=deploy_support", "hosts=lab"]
WAITS = ["gateway.queue.wait_s=300"]


def recipe(*words: str) -> Recipe:
    return validate(compose([*DEPLOYED, *words]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["autoscaling=slo", "autoscaling.max_replicas=9"], r"autoscaling\.max_replicas.*so many are placed"),
        (
            ["autoscaling=slo", "+autoscaling.experts.general={min_replicas: 3, max_replicas: 2}"],
            r"autoscaling\.experts\.general.*min_replicas = 3 is above max_replicas = 2",
        ),
        (["autoscaling=slo", "+autoscaling.experts.genral={min_replicas: 1}"], r"genral.*no expert.*general"),
        (["autoscaling=slo", "+autoscaling.experts.general={in_fligt: 0.5}"], r"in_fligt"),
        (
            ["autoscaling=slo", "+autoscaling.experts.support={waiting: 2}"],
            r"support.*carried by the server of general",
        ),
        (
            ["autoscaling=scale_to_zero", "gateway.queue.wait_s=60"],
            r"gateway\.queue\.wait_s.*at least autoscaling\.start_s = 120",
        ),
        (
            ["autoscaling=scale_to_zero", *WAITS, "gateway.request_timeout_s=90"],
            r"gateway\.request_timeout_s.*at least autoscaling\.start_s",
        ),
        (
            [
                "autoscaling=scale_to_zero",
                *WAITS,
                "+topology.experts.other={model: 'tiny:general', fallback: [general]}",
            ],
            r"autoscaling\.min_replicas.*lets other stop.*general would answer in its place.*fallback=\[\]",
        ),
    ],
)
def test_what_cannot_be_carried_out_is_refused_with_its_place(words: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe(*words)


def test_it_needs_hosts_or_an_export() -> None:
    with pytest.raises(RecipeError, match=r"autoscaling\.enabled.*needs hosts to scale on"):
        validate(compose(["+recipe=serve_gpt_oss_20b", "autoscaling=slo"]))
    validate(compose(["+recipe=serve_gpt_oss_20b", "autoscaling=slo", "export=kubernetes"]))


@pytest.mark.parametrize("name", sorted(path.stem for path in (shipped_root() / "conf" / "autoscaling").glob("*.yaml")))
def test_every_choice_is_right_and_called_by_its_name(name: str) -> None:
    assert recipe(f"autoscaling={name}", *WAITS).autoscaling.name == name


def test_an_expert_overrides_what_it_names_and_keeps_the_rest() -> None:
    given = Autoscaling.model_validate({"up_s": 30, "down_s": 90, "experts": {"general": {"down_s": 60}}})
    assert (given.of("general").up_s, given.of("general").down_s) == (30, 60)
    assert (given.of("other").up_s, given.of("other").down_s) == (30, 90)
    assert Autoscaling.model_validate(given.model_dump()) == given, "also after it was written down and read again"
