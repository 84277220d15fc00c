"""What an inventory must be for what a recipe does."""

from __future__ import annotations

from pathlib import Path

import pytest

from largeforge.errors import RecipeError
from largeforge.recipe.compose import compose
from largeforge.recipe.validate import validate


def problems(*words: str) -> str:
    with pytest.raises(RecipeError) as refused:
        validate(compose(["+recipe=deploy_support", *words]))
    return str(refused.value)


def test_the_shipped_deployment_is_sound() -> None:
    recipe = validate(compose(["+recipe=deploy_support"]))
    assert recipe.deploy.name == "support" and set(recipe.hosts.hosts) == {"front", "box-1", "box-2"}


def test_questions_cannot_be_asked_at_a_hosts_loopback() -> None:
    assert "gateway.host = '127.0.0.1': the gateway is asked from this machine" in problems("gateway.host=127.0.0.1")
    validate(compose(["+recipe=deploy_support", "gateway.host=127.0.0.1", "verify.questions=[]"]))


def test_rules_of_placement_name_experts() -> None:
    said = problems("+deploy.placing.suport.spread=require")
    assert "deploy.placing.suport" in said and "Did you mean 'support'?" in said


def test_secrets_are_references(tmp_path: Path) -> None:
    assert "deploy.secrets.HF_TOKEN" in problems("+deploy.secrets.HF_TOKEN=hf_abcdefgh")
