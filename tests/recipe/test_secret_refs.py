"""A secret that was typed in place of where it is."""

from __future__ import annotations

import pytest

from largeforge.errors import RecipeError
from largeforge.recipe.compose import compose
from largeforge.recipe.validate import validate


@pytest.mark.parametrize(
    "key", ["+hosts.hosts.front.sudo_password", "+deploy.secrets.HF_TOKEN", "+hosts.common.sudo_password"]
)
def test_it_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(RecipeError, match="never the secret: env:NAME") as refused:
        validate(compose(["+recipe=deploy_support", "hosts=lab", f"{key}=hunter2"]))
    assert "hunter2" not in str(refused.value)
