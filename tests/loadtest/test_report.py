"""All steps together: what gates are judged at, what they refuse, and the highest rate that is sustained."""

from __future__ import annotations

from typing import Any

import pytest

from largeforge import loadtest
from largeforge.errors import GateError
from largeforge.judging.verdict import require
from largeforge.loadtest.report import Report
from largeforge.loadtest.result import step
from largeforge.recipe.schema import Goodput, LoadTest
from tests.loadtest.test_result import made


def report(gates: dict[str, str] | None = None, *, rate: float = 4.0, **steps: float) -> Report:
    """Return a report with a time to the first token, in ms, for each rate; 0 is no answer."""
    slo = Goodput(ttft_ms=100)
    rates = {float(name.removeprefix("at")): ttft for name, ttft in steps.items()}
    section = LoadTest(requests_per_second=rate, steps=list(rates), slo=slo, gates=gates or {})
    found = [
        step(made(*[(ttft / 1000, [0.01], "" if ttft else "Bad Gateway")] * 10, rate=rate), slo=slo)
        for rate, ttft in rates.items()
    ]
    return Report(section, tuple(found))


def decided(found: Report, **gates: str) -> dict[str, Any]:
    return {verdict.metric: verdict.outcome for verdict in loadtest.verdicts(found, gates)}


def test_gates_are_judged_at_the_rate_that_is_asked_for():
    found = report(at2=20, at4=50, at8=900)
    assert found.metrics["ttft_p95_ms"] == pytest.approx(50)
    assert decided(found, ttft_p95_ms="<= 60", goodput_share=">= 1", error_share="<= 0") == {
        "load_test.ttft_p95_ms": "pass", "load_test.goodput_share": "pass", "load_test.error_share": "pass",
    }  # fmt: skip


def test_a_gate_that_refuses_says_metric_value_and_condition():
    verdicts = loadtest.verdicts(report(at4=50), {"ttft_p95_ms": "<= 40", "failed": "<= 0"})
    with pytest.raises(GateError, match=r"load_test\.ttft_p95_ms is 50, must be <= 40") as refused:
        require(verdicts, subject="what is served", more="", key="")
    assert refused.value.exit_code == 3
    assert "failed" not in str(refused.value)


def test_a_latency_that_no_request_has_is_refused():
    assert decided(report(at4=0), ttft_p95_ms="<= 60", ttft_p50_ms=">= 0") == {
        "load_test.ttft_p95_ms": "fail", "load_test.ttft_p50_ms": "fail",
    }  # fmt: skip


def test_the_highest_rate_that_meets_the_objective_is_sustained():
    assert report(at2=20, at4=50, at8=900).sustained_per_s == 4
    assert report(at4=900).sustained_per_s == 0
    assert decided(report(at2=20, at4=50, at8=900), sustained_per_s=">= 8") == {"load_test.sustained_per_s": "fail"}


def test_the_table_has_a_row_for_each_rate_and_carries_all_that_was_measured():
    event = loadtest.table(report(at2=20, at4=0))
    assert [row[0] for row in event["rows"]] == [2, 4]
    assert {len(row) for row in event["rows"]} == {len(event["columns"])}
    assert event["rows"][1][event["columns"].index("ttft p95")] == "–"
    assert event["load_test"][0]["ttft_p99_ms"] == pytest.approx(20)
    assert event["load_test"][1]["failed"] == 10
