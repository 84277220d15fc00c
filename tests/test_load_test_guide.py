"""What docs/load_test.md shows works: its commands and its recipe are planned, and its table names every metric."""

from __future__ import annotations

import re

import pytest

from largeforge.recipe.sections.load_test import LATENCIES, METRICS, PERCENTILES, Goodput, LoadTest
from tests import guides

GUIDE = guides.page("load_test")


@pytest.mark.parametrize("command", guides.commands(GUIDE))
def test_a_command_is_planned(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert " put" in guides.planned(command, capsys), "the table wraps: put it under load"


def test_the_recipe_is_planned(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (recipe,) = guides.recipes(GUIDE)
    assert " put" in guides.planned_recipe(recipe, tmp_path, capsys)


def test_the_table_has_every_metric_and_no_other():
    named = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", GUIDE, re.M))))
    short = {f"_p{percentile}_" for percentile in PERCENTILES[1:]}
    latencies = {f"{latency}_p{PERCENTILES[0]}_ms" for latency in LATENCIES}
    assert named == {metric for metric in METRICS if not re.search(r"_p\d+_ms$", metric)} | latencies | short


def test_what_the_text_calls_by_name_is_a_setting():
    settings = {*LoadTest.model_fields, *(f"slo.{name}" for name in Goodput.model_fields)}
    assert {"max_concurrency", "warm_up_requests", "drain_timeout_s", "slo.share"} <= settings
    assert len(guides.commands(GUIDE)) == 3
