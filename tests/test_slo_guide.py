"""docs/slo.md: its example is right, its indicators, figures and choices are all that there are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import yaml

from largeforge.monitoring import signals
from largeforge.recipe.sections.slos import GOOGLE, Indicator, Signal, Slo
from tests.guides import page
from tests.monitoring.test_one_number import follows

GUIDE = page("slo")


def test_its_example_and_indicators_are_right() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", GUIDE, re.S)
    assert set(Slo.model_validate(yaml.safe_load(example)["slo"]).objectives) == {"answered", "quick", "whole", "liked"}
    assert set(follows(GUIDE)) == set(get_args(Indicator))


def test_the_signals_that_it_explains_are_signals() -> None:
    explained = re.findall(r"^\* `([a-z_]+)` is", GUIDE, re.M)
    assert len(explained) == 2 and set(explained) <= set(get_args(Signal))
    assert signals.STARTED_S == 3600 and "in the last hour" in GUIDE


def test_its_figures_are_the_defaults() -> None:
    assert [(one.budget, one.long_h, one.severity) for one in GOOGLE] == [
        (0.02, 1, "page"), (0.05, 6, "page"), (0.1, 24, "ticket"), (0.1, 72, "ticket"),
    ]  # fmt: skip
    assert all(abs(one.short_h - one.long_h / 12) < 1e-9 for one in GOOGLE) and "over a twelfth of that time" in GUIDE
    assert f"`slo.min_events` ({Slo().min_events})" in GUIDE


def test_its_choices_are_all_that_there_are() -> None:
    (listed,) = re.findall(r"Choices: (.*?), which is", GUIDE, re.S)
    choices = {path.stem for path in Path("conf/slo").glob("*.yaml")}
    assert set(re.findall(r"`([a-z0-9_]+)`", listed)) == choices
