"""docs/monitoring.md: its commands plan, its settings are settings, its names are the names that are used."""

from __future__ import annotations

import re

import pytest
import yaml

from largeforge.monitoring import names, rules, scrape
from largeforge.monitoring.panels import TOPICS
from largeforge.recipe.compose import compose
from largeforge.recipe.schema import Monitoring
from largeforge.recipe.sections.slos import Slo
from largeforge.recipe.validate import validate
from tests.guides import commands, page

GUIDE = page("monitoring")


def test_its_example_of_receivers_is_right() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", GUIDE, re.S)
    monitoring = Monitoring.model_validate(yaml.safe_load(example)["monitoring"])
    assert set(monitoring.alerts.receivers()) == {"page-0", "ticket-0", "ticket-1"}


def test_its_settings_and_defaults_are_there() -> None:
    given: dict[str, object] = {}
    for key, value in re.findall(r"`monitoring\.([a-z_.]+)(?:=([^`]+))?`", GUIDE):
        at = Monitoring()
        for part in key.split("."):
            assert part in type(at).model_fields, key
            at = getattr(at, part)
        if value and key.startswith("logs."):
            Monitoring.model_validate({"logs": {key.removeprefix("logs."): value}})
        given[key] = value
    assert {"host", "install", "listen", "ports", "logs.syslog", "logs.loki"} <= given.keys()
    ports = re.findall(r"\| (9\d{3}) \|$", GUIDE, re.M)
    assert sorted(map(int, ports)) == sorted(Monitoring().ports.all())
    assert f"every {Monitoring().scrape_interval_s:g} s, keeps {Monitoring().retention_days:g} days" in GUIDE


def test_its_names_are_those_that_are_used() -> None:
    told = (
        names.GPU_USE,
        names.GPU_MEMORY,
        names.GPU_POWER,
        names.GPU_TEMPERATURE,
        names.SERVER_START,
        names.SERVER_STARTED,
    )
    assert all(f"`{name}`" in GUIDE for name in told)
    alerts = [rule["alert"] for group in scrape.rules_file(Slo(), deployment="a")["groups"] for rule in group["rules"]]
    assert len(alerts) == 4 and all(f"`{alert}`" in GUIDE for alert in alerts)
    assert scrape.SILENT_S == 120 and "two\nminutes" in GUIDE
    assert (rules.ROLLED_BACK_S, rules.ALONE_S) == (3600, 300) and "for five minutes" in GUIDE
    assert len(TOPICS) == 8 and "Eight for Grafana" in GUIDE


@pytest.mark.parametrize("command", [words for words in commands(GUIDE) if "mode=plan" not in words])
def test_its_command_asks_for_monitoring(command: str) -> None:
    recipe = validate(compose(command.split()))
    assert recipe.monitoring.enabled and recipe.slo.name == "assistant"
