"""Monitoring that cannot be installed is refused before anything runs."""

from __future__ import annotations

import json

import pytest

from largeforge.errors import RecipeError
from largeforge.recipe.compose import compose
from largeforge.recipe.validate import validate

DEPLOYED = ["+recipe=deploy_support", "hosts=lab", "monitoring=prometheus", "slo=assistant"]


def recipe(*words):
    return validate(compose(list(words)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["monitoring.host=frnt"], r"monitoring\.host.*no host of the inventory"),
        (["monitoring.ports.node=9090"], r"monitoring\.ports.*9090 is given twice"),
        (["monitoring.ports.node=18001"], r"monitoring\.ports.*deploy\.first_port = 18000"),
        (["monitoring.retention_days=7"], r"monitoring\.retention_days.*slo\.window_days = 30"),
        (["monitoring.logs.syslog=tcp://a:1", "monitoring.logs.loki=http://a"], r"monitoring\.logs.*not both"),
        (["monitoring.logs.syslog=a:1"], r"monitoring\.logs\.syslog"),
        (["monitoring.alerts.page=[{kind: webhook, secret: 'http://hook/1'}]"], r"alerts\.page\.0\.secret"),
        (["monitoring.alerts.page=[{kind: slack, secret: ''}]"], r"alerts\.page\.0\.secret"),
        (["monitoring.alerts.page=[{kind: webhook, secret: 'env:A', channel: a}]"], r"page\.0\.channel.*is for slack"),
        (["monitoring.alerts.pages=[]"], r"monitoring\.alerts\.pages.*unknown"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_its_place(words, message):
    with pytest.raises(RecipeError, match=message):
        recipe(*DEPLOYED, *words)


def test_it_needs_hosts():
    with pytest.raises(RecipeError, match=r"monitoring\.enabled.*needs hosts to be installed on"):
        recipe("+recipe=serve_quickstart", "monitoring=prometheus")


def test_a_resolved_recipe_has_where_a_secret_is_and_not_the_secret(monkeypatch):
    monkeypatch.setenv("PAGER", "r0ut1ng-key")
    found = recipe(*DEPLOYED, "monitoring.alerts.page=[{kind: pagerduty, secret: 'env:PAGER'}]").model_dump_json()
    assert "env:PAGER" in found and "r0ut1ng-key" not in json.dumps(found)
