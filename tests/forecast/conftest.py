"""Plans with forecasts, on hardware that the command line names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from largeforge.forecast.plan import with_forecasts
from largeforge.plan import Plan, make_plan
from largeforge.recipe.compose import compose
from largeforge.recipe.validate import validate

SFT = "+recipe=sft_qwen7b"


def planned(*words: str) -> Plan:
    composition = compose(words)
    return with_forecasts(make_plan(validate(composition), recipe_folder=composition.recipe_folder))


@pytest.fixture
def forecast_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Plan]:
    """Plan the words of a command line in an empty folder: no earlier run counts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return planned
