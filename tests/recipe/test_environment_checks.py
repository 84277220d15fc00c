"""What stages may pin: packages with a version, never torch, and only on top of the running interpreter."""

from __future__ import annotations

import pytest

from largeforge.errors import RecipeError
from largeforge.planning import make_plan
from largeforge.recipe.compose import compose
from largeforge.recipe.validate import validate

WORDS = ("+recipe=sft_qwen7b",)


def plan(*words: str):
    return make_plan(validate(compose([*WORDS, *words])))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["environment.requirements=['torch==2.9.0']"], "is always that of the running environment"),
        (["environment.requirements=['trl']"], "environment.requirements"),
        (
            ["environment.requirements=['trl==1.15.0']", "environment.python=/usr/bin/python3"],
            "leave environment.python",
        ),
    ],
)
def test_what_cannot_be_built_is_refused(given: list[str], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        plan(*given)


def test_pinned_packages_are_part_of_what_a_stage_is() -> None:
    before, after = plan().stages, plan("environment.requirements=['trl==1.15.0']").stages
    changed = [one.kind for one, other in zip(before, after, strict=True) if one.fingerprint != other.fingerprint]
    assert "prepare" not in changed
    assert "train" in changed
