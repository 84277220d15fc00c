"""What a recipe may say about its rows, and which problem is named."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from largeforge.recipe.schema import Dataset


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "path"),
        ({"path": []}, "must be a path, or a list of paths"),
        ({"path": ["a.jsonl", 5]}, "must be a path, or a list of paths"),
        ({"path": "https://me:secret@example.com/rows.jsonl"}, "credentials stand in the environment"),
        ({"path": "a.jsonl", "mix": {"b": {"path": "b.jsonl"}}}, "either a path or a mix, not both"),
        ({"mix": {"a": {"path": "a.jsonl", "weight": 1}, "b": {"path": "b.jsonl"}}}, "b has none"),
        ({"mix": {"A b": {"path": "a.jsonl"}}}, "pattern"),
        ({"path": "a.csv", "columns": {"respons": "reply"}}, "Did you mean 'response'?"),
        ({"mix": {"a": {"path": "a.csv", "columns": {"promt": "question"}}}}, "Did you mean 'prompt'?"),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Dataset.model_validate(given)
    assert words in str(caught.value)


def test_a_source_of_a_mixture_has_the_system_prompt_of_the_dataset_unless_it_has_its_own() -> None:
    mix = {"a": {"path": "a.jsonl"}, "b": {"path": ["b.jsonl"], "system": "B"}}
    found = Dataset.model_validate({"mix": mix, "system": "S"}).sources
    assert {name: source.system for name, source in found.items()} == {"a": "S", "b": "B"}
    assert Dataset.model_validate({"mix": mix}).titles == ["a", "b"]
