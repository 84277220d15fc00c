"""Plans with forecasts, on hardware that the command line names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from largeforge.forecast.plan import with_forecasts
from largeforge.planning import make_plan
from largeforge.recipe.compose import compose
from largeforge.recipe.validate import validate

if TYPE_CHECKING:
    from largeforge.plan import Plan


def planned(*words: str) -> Plan:
    """Plan; the recipe for one's own conversations gets some that may be as long as `max_length` allows."""
    if "+recipe=sft_qwen7b" in words and not any(word.startswith("dataset.path=") for word in words):
        words = (*words, "dataset.path=long.jsonl")
    composition = compose(words)
    return with_forecasts(make_plan(validate(composition), recipe_folder=composition.recipe_folder))


@pytest.fixture
def forecast_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Plan]:
    """Plan the words of a command line in an empty folder: no earlier run counts."""
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": "a " * 100, "response": "b " * size} for size in (100, 200, 20_000)]
    (tmp_path / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows * 1000))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return planned
