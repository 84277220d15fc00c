"""Rules for objectives, by Prometheus's own unit tests: when alerts are raised, and when they end."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from largeforge.monitoring import rules
from largeforge.recipe.sections.slos import Slo

pytestmark = pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool")

REQUESTS = 'largeforge_gateway_requests_total{deployment="shop",expert="%s",model="m",status="%s"}'
BUCKET = 'largeforge_gateway_request_duration_seconds_bucket{deployment="shop",expert="support",model="m",le="%s"}'
COUNT = 'largeforge_gateway_request_duration_seconds_count{deployment="shop",expert="support",model="m"}'
HOUR = 60
"""Samples come once a minute."""

Run = Callable[..., None]


CHANGED = (
    'largeforge_gateway_rollout_changed_timestamp_seconds{deployment="shop",expert="support",phase="%s",worker="%s"}'
)
SEEN = 'largeforge_gateway_rollout_seen_timestamp_seconds{deployment="shop",expert="%s",worker="%s"}'
PHASE = 'largeforge_gateway_rollout_phase{deployment="shop",expert="%s",phase="running",worker="0"}'


def counter(*pieces: tuple[int, float]) -> str:
    """Return a counter's samples: for so many minutes, so much more each."""
    steps = (step for minutes, step in pieces for _ in range(minutes))
    return " ".join(f"{value:g}" for value in itertools.accumulate(steps, initial=0))


@pytest.fixture
def check(tmp_path: Path) -> Run:
    def run(slo: dict[str, Any], series: dict[str, str], expected: Iterable[tuple[str, str, dict[str, float]]]) -> None:
        """Check queries: time, expression, and value by what is left of the labels in short."""
        groups = [*rules.groups(Slo.model_validate(slo), deployment="shop"), rules.rollouts(deployment="shop")]
        (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": groups}))
        tests = [
            {
                "expr": expression,
                "eval_time": at,
                "exp_samples": [{"labels": key, "value": v} for key, v in want.items()],
            }
            for at, expression, want in expected
        ]
        case = {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": tests,
        }
        whole = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [case]}
        (tmp_path / "test.yml").write_text(yaml.safe_dump(whole))
        ended = subprocess.run(
            ["promtool", "test", "rules", "test.yml"], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr

    return run


def availability(objective: float = 0.999, **more: Any) -> dict[str, Any]:
    return {"objectives": {"answered": {"indicator": "availability", "objective": objective, **more}}}


FIRING = 'count by (window, severity) (ALERTS{alertname="ErrorBudgetBurns",objective="answered",alertstate="firing"})'
PAGES = FIRING.replace("alertstate=", 'severity="page",alertstate=')
QUICK = '{severity="page", window="1h"}'
SLOWER = '{severity="page", window="6h"}'


def test_a_fault_is_told_within_minutes_and_is_over_minutes_after_it(check: Run) -> None:
    good, fault = (6 * HOUR, 100.0), (20, 95.0)
    check(
        availability(),
        {
            REQUESTS % ("support", 200): counter(good, fault, (2 * HOUR, 100.0)),
            REQUESTS % ("support", 500): counter((6 * HOUR, 0.0), (20, 5.0), (2 * HOUR, 0.0)),
        },
        [
            ("6h", PAGES, {}),
            # 5 % bad for 20 minutes are 1.7 % over the hour: over 14.4 times 0.1 %
            ("6h10m", PAGES, {}),
            ("6h20m", PAGES, {QUICK: 1}),
            ("6h30m", PAGES, {}),
            ("6h30m", "slo:bad:ratio_rate1h > bool 0.0144", {'{deployment="shop", objective="answered"}': 1}),
        ],
    )


def test_a_small_fault_that_lasts_is_told_by_the_slower_alert_alone(check: Run) -> None:
    check(
        availability(),
        {
            REQUESTS % ("support", 200): counter((6 * HOUR, 992.0)),
            REQUESTS % ("support", 500): counter((6 * HOUR, 8.0)),
        },
        [("5h59m", FIRING, {SLOWER: 1, '{severity="ticket", window="1d"}': 1, '{severity="ticket", window="3d"}': 1})],
    )


def test_one_failure_of_few_requests_wakes_nobody(check: Run) -> None:
    series = {
        REQUESTS % ("support", 200): counter((HOUR, 0.1), (HOUR, 0.1)),
        REQUESTS % ("support", 500): counter((HOUR, 0.0), (5, 1.0), (HOUR - 5, 0.0)),
    }
    now = "1h6m"
    check(availability(), series, [(now, FIRING, {})])
    check({**availability(), "min_events": 0}, series, [(now, f"sum({FIRING}) > bool 0", {"{}": 1})])


def test_nobody_asks_and_nothing_is_told(check: Run) -> None:
    check(availability(), {REQUESTS % ("support", 200): counter((HOUR, 0.0))}, [("50m", "count(ALERTS)", {})])


def test_the_mistakes_of_clients_do_not_count(check: Run) -> None:
    series = {
        REQUESTS % ("support", 200): counter((2 * HOUR, 50.0)), REQUESTS % ("support", 422): counter((2 * HOUR, 50.0)),
        REQUESTS % ("none", 499): counter((2 * HOUR, 50.0)),
    }  # fmt: skip
    labels = '{__name__="slo:bad:ratio_rate1h", deployment="shop", objective="answered"}'
    check(availability(), series, [("2h", "slo:bad:ratio_rate1h", {labels: 0}), ("2h", "count(ALERTS)", {})])


def test_the_fault_of_one_expert_is_told_with_its_name(check: Run) -> None:
    series = {
        REQUESTS % ("general", 200): counter((2 * HOUR, 10_000.0)),
        REQUESTS % ("support", 200): counter((2 * HOUR, 70.0)), REQUESTS % ("support", 503): counter((2 * HOUR, 30.0)),
    }  # fmt: skip
    firing = 'count by (expert) (ALERTS{alertname="ErrorBudgetBurns",window="1h",alertstate="firing"})'
    check(availability(0.99), series, [("2h", firing, {})])
    check(availability(0.99, by_expert=True), series, [("2h", firing, {'{expert="support"}': 1})])


def test_a_latency_counts_what_is_over_its_threshold(check: Run) -> None:
    slo = {"objectives": {"fast": {"indicator": "latency", "objective": 0.95, "threshold_ms": 250}}}
    series = {COUNT: counter((7 * HOUR, 100.0)), BUCKET % "0.25": counter((7 * HOUR, 60.0))}
    labels = '{__name__="slo:bad:ratio_rate1h", deployment="shop", objective="fast"}'
    firing = 'count by (window) (ALERTS{objective="fast",alertstate="firing",severity="page"})'
    check(
        slo, series,
        [("7h", "slo:bad:ratio_rate1h", {labels: 0.4}), ("7h", firing, {'{window="6h"}': 1})],
    )  # fmt: skip


def test_what_is_left_of_the_error_budget(check: Run) -> None:
    series = {
        REQUESTS % ("support", 200): counter((5 * HOUR, 999.5)), REQUESTS % ("support", 500): counter((5 * HOUR, 0.5)),
    }  # fmt: skip
    left = "round(slo:error_budget_left:ratio, 0.01)"
    check(availability(), series, [("5h", left, {'{deployment="shop", objective="answered"}': 0.5})])


def test_a_threshold_is_told_after_its_time(check: Run) -> None:
    slo = {"alerts": {"too_slow": {"signal": "latency_p95_ms", "above": 250, "for_s": 600, "severity": "page"}}}
    series = {
        BUCKET % "0.25": counter((2 * HOUR, 50.0)), BUCKET % "0.5": counter((2 * HOUR, 100.0)),
        BUCKET % "+Inf": counter((2 * HOUR, 100.0)), COUNT: counter((2 * HOUR, 100.0)),
    }  # fmt: skip
    raised = 'count by (alertname, severity) (ALERTS{alertstate="firing"})'
    check(slo, series, [("9m", raised, {}), ("1h", raised, {'{alertname="TooSlow", severity="page"}': 1})])


RAISED = 'count by (alertname, expert, severity) (ALERTS{alertstate="firing"})'
BACK = '{alertname="RolloutRolledBack", expert="support", severity="ticket"}'
OUT = '{alertname="CanaryTakenOut", expert="support", severity="ticket"}'
ALONE = '{alertname="RolloutWithoutController", expert="support", severity="ticket"}'


def test_a_rollout_that_was_rolled_back_is_told_for_an_hour(check: Run) -> None:
    series = {
        CHANGED % ("running", 0): "0x29 stale", CHANGED % ("running", 1): "0x30 stale",
        CHANGED % ("rolled_back", 0): "_x30 1800x90", CHANGED % ("rolled_back", 1): "_x31 1800x90",
    }  # fmt: skip
    check(
        {}, series, [("29m", RAISED, {}), ("31m", RAISED, {BACK: 1}), ("89m", RAISED, {BACK: 1}), ("91m", RAISED, {})]
    )


def test_a_canary_that_a_gateway_took_out_is_told_until_somebody_takes_note(check: Run) -> None:
    series = {'largeforge_gateway_canary_guarded{deployment="shop",expert="support",worker="1"}': "_x9 1x20 stale"}
    check({}, series, [("5m", RAISED, {}), ("12m", RAISED, {OUT: 1}), ("40m", RAISED, {})])


def test_a_running_rollout_without_a_controller_is_told_after_five_minutes(check: Run) -> None:
    series = {
        SEEN % ("support", 0): "0+60x10 600x30", SEEN % ("support", 1): "0x40",  # another one that hears it late
        PHASE % "support": "1x40",
        SEEN % ("general", 0): "0x40", PHASE % "general": "0x40",  # over: nobody needs to look
    }  # fmt: skip
    told = [("8m", RAISED, {}), ("15m", RAISED, {}), ("16m", RAISED, {ALONE: 1}), ("40m", RAISED, {ALONE: 1})]
    check({}, series, told)


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "conf" / "slo").glob("*.yaml")), ids=lambda p: p.stem
)
def test_prometheus_takes_the_rules_of_every_choice(path: Path, tmp_path: Path) -> None:
    groups = [*rules.groups(Slo.model_validate(yaml.safe_load(path.read_text()))), rules.rollouts()]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": groups}))
    ended = subprocess.run(["promtool", "check", "rules", tmp_path / "rules.yml"], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
