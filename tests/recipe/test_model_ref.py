"""The one parser of model references."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from largeforge.recipe.model_ref import SCHEMES, ModelRef, parse


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("hub:Qwen/Qwen2.5-7B-Instruct", ModelRef("hub", "Qwen/Qwen2.5-7B-Instruct")),
        ("hub:gpt2@refs/pr/1", ModelRef("hub", "gpt2", "refs/pr/1")),
        ("path:/models/my model:1", ModelRef("path", "/models/my model:1")),
        (
            "run:runs/q/20260101T120000-ab12cd34/general.train",
            ModelRef("run", "runs/q/20260101T120000-ab12cd34", "general.train"),
        ),
        ("registry:bot", ModelRef("registry", "bot")),
        ("registry:bot@champion", ModelRef("registry", "bot", "champion")),
        ("registry:bot/7", ModelRef("registry", "bot", "7", is_version=True)),
        ("tiny:general", ModelRef("tiny", "general")),
        ("job:general", ModelRef("job", "general")),
        ("job:general/merge", ModelRef("job", "general", "merge")),
    ],
)
def test_parses_and_prints(text, ref):
    assert parse(text) == ref
    assert str(ref) == text


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "begins with one of"),
        ("gpt2", "begins with one of"),
        ("HUB:gpt2", "begins with one of"),
        ("https://example.com/model", "begins with one of"),
        ("hub:", "malformed hub:"),
        ("hub:a/b/c", "malformed hub:"),
        ("hub:a b", "malformed hub:"),
        ("path:", "malformed path:"),
        ("run:only", "malformed run:"),
        ("registry:bot/seven", "version is a number"),
        ("registry:a/b@c", "malformed registry:"),
        ("tiny:a/b", "malformed tiny:"),
        ("job:a/evaluate", "malformed job:"),
    ],
)
def test_refuses_with_an_example(text, rule):
    with pytest.raises(ValueError, match=rule):
        parse(text)


@given(st.sampled_from(SCHEMES), st.text(max_size=40))
def test_what_is_accepted_prints_as_it_was(scheme, rest):
    try:
        ref = parse(f"{scheme}:{rest}")
    except ValueError:
        return
    assert str(ref) == f"{scheme}:{rest}"
