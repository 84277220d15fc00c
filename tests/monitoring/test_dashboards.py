"""Dashboards: Grafana's JSON for every topic, queries that Prometheus reads, what one number of `slo` changes."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from largeforge.monitoring import dashboards, scrape
from largeforge.monitoring.panels import TOPICS, boards
from largeforge.monitoring.text import as_yaml
from largeforge.recipe.sections.slos import Slo

CHOICES = sorted((Path(__file__).parents[2] / "conf" / "slo").glob("*.yaml"))


def slo_of(path: Path) -> Slo:
    return Slo.model_validate(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize("path", CHOICES, ids=lambda path: path.stem)
def test_every_topic_is_a_dashboard_of_grafana(path: Path) -> None:
    pytest.importorskip("grafana_foundation_sdk")
    slo = slo_of(path)
    found = {name: json.loads(text) for name, text in dashboards.files(slo, deployment="shop", price_usd=2).items()}
    assert set(found) == {f"{topic}.json" for topic in TOPICS}
    uids = {board["uid"] for board in found.values()}
    assert len(uids) == len(found) and all(len(uid) <= 40 for uid in uids)
    source = {"type": "prometheus", "uid": "lf-shop"}
    asked = dashboards.data_source(deployment="shop", url="http://127.0.0.1:9090")["datasources"][0]["uid"]
    for board in found.values():
        assert board["panels"] and asked == source["uid"]
        for panel in board["panels"]:
            assert panel["datasource"] == source and panel["targets"], panel["title"]
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_a_number_that_is_short_of_its_goal_is_yellow_before_it_raises_an_alert() -> None:
    pytest.importorskip("grafana_foundation_sdk")
    alerts = {
        "full": {"signal": "queue", "above": 500, "goal": 100},
        "idle": {"signal": "gpu_use", "below": 0.5, "goal": 0.7},
        "hot": {"signal": "gpu_use", "above": 0.9},
    }
    found = json.loads(dashboards.files(Slo.model_validate({"alerts": alerts}), deployment="shop")["slo.json"])
    colours = {
        panel["title"].partition(":")[0]: [
            (step["value"], step["color"]) for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        ]
        for panel in found["panels"]
        if panel["title"].partition(":")[0] in alerts
    }
    assert colours == {
        "full": [(None, "green"), (100, "yellow"), (500, "red")],
        "idle": [(None, "red"), (0.5, "yellow"), (0.7, "green")],
        "hot": [(None, "green"), (0.9, "red")],
    }


def test_an_objective_has_its_goal_and_what_is_left_of_its_error_budget() -> None:
    pytest.importorskip("grafana_foundation_sdk")
    slo = Slo.model_validate({"objectives": {"answered": {"indicator": "availability", "objective": 0.995}}})
    panels = {
        panel["title"]: panel for panel in json.loads(dashboards.files(slo, deployment="shop")["slo.json"])["panels"]
    }
    kept = panels["answered: kept over 30d (goal 0.995)"]
    steps = kept["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert steps == [{"color": "red", "value": None}, {"color": "green", "value": 0.995}]
    left = panels["answered: error budget left"]["targets"][0]["expr"]
    assert left == 'slo:error_budget_left:ratio{objective="answered",deployment="shop"}'


@pytest.mark.parametrize("path", CHOICES, ids=lambda path: path.stem)
def test_prometheus_can_read_every_query(path: Path, tmp_path: Path) -> None:
    if not shutil.which("promtool"):
        pytest.skip("needs promtool")
    found = boards(slo_of(path), deployment="shop", price_usd=2)
    queries = [query.expression for panels in found.values() for panel in panels for query in panel.queries]
    rules = [{"record": f"panel:{index}", "expr": query} for index, query in enumerate(queries)]
    (tmp_path / "rules.yml").write_text(as_yaml({"groups": [{"name": "panels", "rules": rules}]}))
    ended = subprocess.run(["promtool", "check", "rules", tmp_path / "rules.yml"], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("path", CHOICES, ids=lambda path: path.stem)
def test_panels_ask_for_what_is_recorded(path: Path) -> None:
    slo = slo_of(path)
    groups = scrape.rules_file(slo, deployment="shop")["groups"]
    recorded = {(rule["record"], rule["labels"]["objective"]) for group in groups for rule in group["rules"]
                if "record" in rule}  # fmt: skip
    for panel in boards(slo, deployment="shop")["slo"]:
        for query in panel.queries:
            if "slo:" in query.expression:
                metric = "slo:" + query.expression.partition("slo:")[2].partition("{")[0]
                objective = query.expression.partition('objective="')[2].partition('"')[0]
                assert (metric, objective) in recorded, query


def shown(slo: Slo) -> Any:
    return boards(slo, deployment="shop")["slo"]


def alerts(slo: Slo) -> list[Any]:
    groups = scrape.rules_file(slo, deployment="shop")["groups"]
    return [rule for group in groups for rule in group["rules"] if rule.get("alert") == "ErrorBudgetBurns"]


def recorded(slo: Slo) -> list[Any]:
    groups = scrape.rules_file(slo, deployment="shop")["groups"]
    return [rule for group in groups for rule in group["rules"] if "record" in rule]


@settings(deadline=None, max_examples=50)
@given(st.sampled_from([0.9, 0.95, 0.99, 0.995, 0.999]), st.sampled_from([0.92, 0.97, 0.9925, 0.9995]))
def test_one_number_changes_rule_panel_and_alert_of_its_objective_alone(before: float, after: float) -> None:
    def made(goal: float) -> Slo:
        kept = {"indicator": "fallback", "objective": 0.9}
        objectives = {"answered": {"indicator": "availability", "objective": goal}, "kept": kept}
        return Slo.model_validate({"objectives": objectives})

    old, new = made(before), made(after)
    for seen in (shown, alerts, recorded):
        was, now = seen(old), seen(new)
        changed = [one for one in now if one not in was]
        assert changed and not any("kept:" in str(one) or "'objective': 'kept'" in str(one) for one in changed)
        assert any(f"{after:g}" in str(one) or f"{1 - after:g}" in str(one) for one in changed), seen


def test_what_a_million_tokens_cost_is_shown_where_the_price_is_known() -> None:
    def titles(price: float) -> str:
        return str([panel.title for panel in boards(Slo(), deployment="shop", price_usd=price)["cost"]])

    assert "A million tokens" in titles(2.5) and "A million tokens, " not in titles(0)
