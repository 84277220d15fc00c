"""What is made of the tool's result: a recorded one of a server that refused one request in ten, and made-up ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy
import pytest

from largeforge.errors import LoadTestError
from largeforge.loadtest.result import percentile, step
from largeforge.recipe.schema import Goodput
from largeforge.recipe.sections.load_test import METRICS

RECORDED = Path(__file__).with_name("recorded_result.json")


def recorded() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RECORDED.read_text())
    return found


def made(*requests: tuple[float, list[float], str], rate: float = 10.0, queue: float = 0.0) -> dict[str, Any]:
    """Return a result as the tool writes it, of requests as time to the first token, gaps in seconds, and error."""
    failed = sum(bool(error) for _, _, error in requests)
    return {
        "request_rate": rate, "duration": 2.0, "completed": len(requests) - failed, "failed": failed,
        "ttfts": [ttft for ttft, _, _ in requests], "itls": [gaps for _, gaps, _ in requests],
        "errors": [error for _, _, error in requests], "queue_times": [queue] * len(requests),
        "output_lens": [0 if error else len(gaps) + 1 for _, gaps, error in requests],
        "start_times": [place / rate for place in range(len(requests))],
        "total_input_tokens": 40, "total_output_tokens": 20,
    }  # fmt: skip


def test_a_recorded_result_has_every_metric_and_the_latencies_that_the_tool_tells():
    raw = recorded()
    found = step(raw, slo=Goodput(ttft_ms=2000))
    assert {*found.metrics, "sustained_per_s"} == set(METRICS)
    assert (found.metrics["sent"], found.metrics["completed"], found.metrics["failed"]) == (30, 27, 3)
    assert found.metrics["error_share"] == pytest.approx(0.1)
    assert found.errors == {"Service Unavailable": 3}
    assert found.metrics["goodput_share"] == pytest.approx(0.9), "a failed request is no goodput"
    assert found.metrics["goodput_per_s"] == pytest.approx(raw["request_goodput"], rel=1e-4)
    for ours, its in {"ttft": "ttft", "inter_token": "itl", "tpot": "tpot", "e2e": "e2el"}.items():
        for percent in (50, 90, 95, 99):
            told = raw[f"p{percent}_{its}_ms"]
            assert found.metrics[f"{ours}_p{percent}_ms"] == pytest.approx(told, abs=1), "but for the wait to be sent"
    assert found.keeps_rate
    assert (found.prompt_tokens, found.output_tokens) == (27 * 7, 27 * 4)


def test_percentiles_are_those_of_numpy():
    values = sorted([3.0, 1.0, 4.0, 1.5, 9.0, 2.6])
    for percent in (0, 50, 90, 95, 99, 100):
        assert percentile(values, percent) == pytest.approx(numpy.percentile(values, percent))
    assert percentile([], 50) is None


def test_where_nobody_answered_there_is_no_latency_rather_than_one_of_0():
    found = step(made((0.0, [], "Bad Gateway"), (0.0, [], "Bad Gateway")), slo=Goodput())
    assert found.metrics["ttft_p95_ms"] is None
    assert found.metrics["error_share"] == 1
    assert found.metrics["goodput_share"] == 0


@pytest.mark.parametrize(
    ("slo", "good"),
    [
        ({}, 2),
        ({"ttft_ms": 100}, 1),
        ({"inter_token_ms": 15}, 1),
        ({"e2e_ms": 310}, 1),
        ({"ttft_ms": 100, "inter_token_ms": 15}, 0),
        ({"ttft_ms": 1000, "inter_token_ms": 1000, "e2e_ms": 1000}, 2),
    ],
)
def test_goodput_counts_what_meets_the_whole_objective(slo, good):
    requests = made((0.05, [0.1, 0.1, 0.3], ""), (0.3, [0.01] * 1, ""), (0.01, [0.01], "TimeoutError: too late"))
    found = step(requests, slo=Goodput(**slo))
    assert found.metrics["goodput_share"] == pytest.approx(good / 3)
    assert found.metrics["goodput_per_s"] == pytest.approx(good / 2)


def test_a_wait_before_sending_counts_as_latency():
    found = step(made((0.05, [0.01], ""), queue=1.0), slo=Goodput())
    assert found.metrics["ttft_p50_ms"] == pytest.approx(1050)
    assert found.metrics["e2e_p50_ms"] == pytest.approx(1060)


def test_a_wait_before_sending_does_not_pass_for_a_slow_machine():
    waited = made(*[(0.05, [0.01], "")] * 10, rate=20)
    waited["queue_times"] = [0.1 * place for place in range(10)]
    waited["start_times"] = [place * (0.1 + 1 / 20) for place in range(10)]
    found = step(waited, slo=Goodput())
    assert found.metrics["sent_per_s"] == pytest.approx(20)
    assert found.keeps_rate


def test_one_request_is_enough():
    found = step(made((0.05, [0.01], "")), slo=Goodput())
    assert found.keeps_rate
    assert found.metrics["sent_per_s"] is None
    assert found.metrics["ttft_p99_ms"] == pytest.approx(50)


def test_a_stream_that_broke_is_a_failure_with_the_last_line_of_its_traceback():
    trace = "Traceback (most recent call last):\n  File 'x.py'\nRuntimeError: the stream ended in an error: 500\n"
    found = step(made((0.05, [], ""), (0.05, [0.01], trace)), slo=Goodput())
    assert found.errors == {"RuntimeError: the stream ended in an error: 500": 1}
    assert found.metrics["completed"] == 1


def test_a_machine_that_is_too_slow_to_send_is_found_out():
    slow = made(*[(0.05, [0.01], "")] * 10, rate=10)
    slow["request_rate"] = 20.0
    found = step(slow, slo=Goodput())
    assert found.metrics["sent_per_s"] == pytest.approx(10)
    assert not found.keeps_rate


def test_a_result_that_contradicts_itself_is_refused():
    with pytest.raises(LoadTestError, match="counts 30 answers and 3 failures"):
        step({**recorded(), "completed": 30}, slo=Goodput())
