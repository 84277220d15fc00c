"""docs/autoscaling.md: its commands plan, its settings are settings, its numbers are the defaults."""

from __future__ import annotations

import argparse
import importlib
import re

import pytest
import yaml

from largeforge.deploy.scaling.controller import AGAIN_S
from largeforge.deploy.scaling.readings import WINDOW_S
from largeforge.recipe.compose import compose
from largeforge.recipe.folders import shipped_root
from largeforge.recipe.schema import Autoscaling
from largeforge.recipe.validate import validate
from tests.guides import commands, page

GUIDE = page("autoscaling")
DEFAULTS = Autoscaling()


@pytest.mark.parametrize("command", commands(GUIDE))
def test_its_commands_deploy_with_autoscaling(command: str) -> None:
    recipe = validate(compose(command.split()))
    assert recipe.autoscaling.enabled and recipe.deploy.name == "support"


def test_its_command_that_scales_is_there() -> None:
    (words,) = re.findall(r"^python -m largeforge autoscale (.*)$", GUIDE, re.M)
    parser = argparse.ArgumentParser()
    importlib.import_module("largeforge.commands.autoscale").add_arguments(parser)
    given = parser.parse_args([*words.split(), "--dry-run"])
    assert (given.inventory, given.deployment, given.dry_run) == ("lab", "support", True)


def test_its_choices_are_those_that_there_are() -> None:
    there = {path.stem for path in (shipped_root() / "conf" / "autoscaling").glob("*.yaml")}
    assert set(re.findall(r"^\| `autoscaling=(\w+)` \|", GUIDE, re.M)) == there - {"none"}


def test_its_settings_are_there_and_its_numbers_are_the_defaults() -> None:
    named = re.findall(r"`autoscaling\.([a-z_.]+)(?:=[^`]+)?`", GUIDE)
    assert set(named) <= set(Autoscaling.model_fields) and len(set(named)) > 12
    assert f"every {DEFAULTS.interval_s:g} s" in GUIDE
    assert f"for {DEFAULTS.up_s:g} s (`autoscaling.up_s`)" in GUIDE
    assert f"for {DEFAULTS.down_s:g} s (`autoscaling.down_s`)" in GUIDE
    assert f"After {DEFAULTS.idle_s:g} s without" in GUIDE
    assert f"`autoscaling.start_s` ({DEFAULTS.start_s:g} s)" in GUIDE
    assert f"beyond {DEFAULTS.waiting:g} for each" in GUIDE
    assert f"`autoscaling.min_replicas` ({DEFAULTS.min_replicas})" in GUIDE
    assert (DEFAULTS.in_flight, DEFAULTS.cache_use, DEFAULTS.gpu_use, DEFAULTS.panic) == (0.8, 0.9, 0, 2)
    assert DEFAULTS.weeks == 4 and "for four weeks" in GUIDE
    assert AGAIN_S == 600 and "ten minutes" in GUIDE and WINDOW_S == 120 and "last two minutes" in GUIDE


def test_its_example_is_right() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", GUIDE, re.S)
    found = Autoscaling.model_validate(yaml.safe_load(example)["autoscaling"])
    assert (found.of("general").down_s, found.of("general").min_replicas, found.of("mapper").min_replicas) == (
        600,
        2,
        1,
    )
