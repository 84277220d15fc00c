"""docs/rollouts.md: its commands plan, its settings are settings, its figures are the defaults."""

from __future__ import annotations

import re

import pytest

from largeforge.commands import rollout as command
from largeforge.recipe.compose import compose
from largeforge.recipe.sections.rollouts import Analysis, Rollout
from largeforge.recipe.validate import validate
from tests.guides import commands, page, planned

GUIDE = page("rollouts")
OF_EXPERTS = re.findall(r"`(rollout\.experts\.[^`]+=[^`]+)`", GUIDE)


def test_its_settings_are_there() -> None:
    keys = set(re.findall(r"`rollout\.([a-z_.]+)", GUIDE))
    for key in (key for key in keys if not key.startswith("experts.")):
        at = Rollout()
        for part in key.split("."):
            assert part in type(at).model_fields, key
            at = getattr(at, part)
    assert {"steps", "bake_s", "again", "alias", "analysis.triggers"} <= keys


@pytest.mark.parametrize("word", OF_EXPERTS)
def test_its_settings_of_an_expert_are_planned_and_hold(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["+recipe=deploy_support", "hosts=lab", "rollout=canary", word]
    planned(" ".join(words), capsys)
    rollout = validate(compose(words)).rollout
    assert rollout.of("general") != rollout.of("another")


def test_it_shows_settings_of_experts() -> None:
    assert {word.partition("=")[0].rpartition(".")[2] for word in OF_EXPERTS} == {"steps", "strategy"}


def test_its_figures_are_the_defaults() -> None:
    settings = Rollout()
    assert settings.steps == [0.05, 0.25, 0.5, 1.0] and "5, 25, 50 and 100 %" in GUIDE
    assert f"`rollout.bake_s` ({settings.bake_s:g} s) and `rollout.min_requests` ({settings.min_requests})" in GUIDE
    assert (
        f"`rollout.watch_s` ({settings.watch_s:g} s)" in GUIDE and f"(`rollout.look_s`, {settings.look_s:g} s)" in GUIDE
    )
    limits = Analysis().triggers
    assert (limits.error_share, limits.latency_share, limits.latency_ms) == (0.01, 0.01, 500)
    assert "1 % errors, 1 % of requests above 500 ms" in GUIDE and Analysis().alpha == 0.01


def test_its_strategies_are_all_choices() -> None:
    named = re.findall(r"^\| `([a-z_]+)` \|", GUIDE, re.M)
    for name in named:
        hosts = [] if name == "immediate" else ["hosts=lab"]
        words = ["+recipe=deploy_support", f"rollout={name}", *hosts]
        assert validate(compose(words)).rollout.strategy == name
    assert set(named) == {"immediate", "canary", "blue_green", "shadow", "ab"}


@pytest.mark.parametrize(
    "words", [words for words in commands(GUIDE) if "mode=plan" not in words and "+recipe" in words]
)
def test_its_command_is_a_canary(words: str) -> None:
    assert validate(compose(words.split())).rollout.name == "canary"


def test_its_commands_are_those_that_there_are() -> None:
    shown = set(re.findall(r"largeforge rollout ([a-z]+)", GUIDE))
    assert (
        shown
        == {"status", "pause", "resume", "promote", "abort"}
        == set(re.findall(r"largeforge rollout ([a-z]+)", command.__doc__ or ""))
    )
