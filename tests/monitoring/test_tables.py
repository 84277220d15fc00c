"""The choices of `slo` have the numbers of the tables that they come from, and no other ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from largeforge.recipe.sections.slos import Slo

CHOICES = sorted((Path(__file__).parents[2] / "conf" / "slo").glob("*.yaml"))


def objective(indicator: str, share: float, threshold_ms: float = 0) -> dict[str, Any]:
    return {"indicator": indicator, "objective": share, "threshold_ms": threshold_ms}


def alert(signal: str, severity: str = "ticket", for_s: float = 300, **limits: float) -> dict[str, Any]:
    return {"signal": signal, "severity": severity, "for_s": for_s, **limits}


SERVED = {
    # source: infrastructure document, alert rules
    "gpu_hot": alert("gpu_use", above=0.9),  # HighGPUUtilization: > 90 % for 5m, warning
    "queue": alert("queue", "page", 120, above=50),  # HighRequestQueueDepth: > 50 for 2m, critical
    "server_down": alert("servers_down", "page", 60, above=0),  # ModelLoadFailure: not loaded for 1m, critical
    "errors": alert("errors_per_s", "ticket", 180, above=0.1),  # HighErrorRate: > 0.1 a second for 3m, warning
}
STRUCTURED = {
    # source: objectives of structured answers, 5) alerting thresholds
    "invalid": alert("schema_valid_share", "page", 900, below=0.995),  # schema-valid, critical: < 99.5 % for 15m
    "fallback": alert("fallback_share", "ticket", 600, above=0.1),  # fallback, warning: > 10 % for 10m
    "unavailable": alert("availability", "page", 600, below=0.99),  # availability, critical: < 99.0 % for 10m
}
PROMISED = {
    # source: objectives of structured answers, 3) service level objectives, over 30 days
    "schema_valid": objective("schema_valid", 0.995),  # schema-valid rate: >= 99.5 %
    "fallback": objective("fallback", 0.9),  # fallback usage: < 10 %
    "availability": objective("availability", 0.999),  # availability: >= 99.9 %
}
ANSWERED = objective("availability", 0.999)
TABLES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "none": ({}, {}),
    "platform": (
        {
            # source: platform document, operational metrics (target); latency as in its serving capabilities
            "first_token": objective("ttft", 0.95, 100),  # inference latency (p95): < 100 ms, "(first token)"
            "availability": ANSWERED,  # availability: 99.9 %, and error rate: < 0.1 %
        },
        {
            # source: platform document, operational metrics (target, alert threshold)
            "slow_first_token": alert("ttft_p95_ms", above=200, goal=100),  # inference latency (p95): < 100, > 200 ms
            "errors": alert("error_share", "page", above=0.01, goal=0.001),  # error rate: < 0.1 %, > 1 %
            "unavailable": alert("availability", "page", below=0.995, goal=0.999),  # availability: 99.9 %, < 99.5 %
            "gpu_idle": alert("gpu_use", "info", 3600, below=0.5, goal=0.7),  # GPU utilization: > 70 %, < 50 %
            "gpu_full": alert("gpu_use", "ticket", 900, above=0.95),  # GPU utilization: > 95 %
            "queue": alert("queue", "page", 120, above=500, goal=100),  # request queue depth: < 100, > 500
        },
    ),
    "gpt_oss_20b": (
        # source: infrastructure document, service level objectives, vLLM-20B: 99.9 %, 150 ms, < 0.1 %
        {"availability": ANSWERED, "first_token": objective("ttft", 0.95, 150)},
        # source: infrastructure document, SLA targets, cold start: < 60 seconds for 20B
        {**SERVED, "slow_start": alert("model_load_s", "ticket", 0, above=60)},
    ),
    "gpt_oss_120b": (
        # source: infrastructure document, service level objectives, vLLM-120B: 99.9 %, 300 ms, < 0.1 %
        {"availability": ANSWERED, "first_token": objective("ttft", 0.95, 300)},
        # source: infrastructure document, SLA targets, cold start: < 120 seconds for 120B
        {**SERVED, "slow_start": alert("model_load_s", "ticket", 0, above=120)},
    ),
    "structured": (
        # source: objectives of structured answers, 3), latency, p95: <= 250 ms (CPU)
        {**PROMISED, "latency": objective("latency", 0.95, 250)},
        {
            # source: objectives of structured answers, 5) alerting thresholds
            **STRUCTURED,
            "slow": alert("latency_p95_ms", "ticket", 300, above=200),  # latency (CPU), warning: > 200 ms for 5m
            "too_slow": alert("latency_p95_ms", "page", 600, above=250),  # latency (CPU), critical: > 250 ms for 10m
        },
    ),
    "structured_gpu": (
        # source: objectives of structured answers, 3), GPU profile: <= 120 ms p95
        {**PROMISED, "latency": objective("latency", 0.95, 120)},
        {
            **STRUCTURED,
            "slow": alert("latency_p95_ms", "ticket", 300, above=100),  # ours: about as far below as on a CPU
            "too_slow": alert("latency_p95_ms", "page", 600, above=120),  # ours: the objective, as on a CPU
        },
    ),
    "assistant": (
        {
            # source: operations patterns, alert thresholds
            "availability": objective("availability", 0.995),  # critical: availability < 99.5 %
            "thumbs": objective("thumbs", 0.9),  # ours: user satisfaction (thumbs) is to be monitored, without a number
        },
        {
            # source: operations patterns, alert thresholds
            "unavailable": alert("availability", "page", below=0.995),  # critical: availability < 99.5 %
            "slower": alert("latency_p95_vs_day_before", "page", above=2),  # critical: P95 latency > 2x baseline
            "errors": alert("error_share", "page", above=0.05),  # critical: error rate > 5 %
            "cost_spike": alert("cost_per_token_vs_week_before", "page", 3600, above=2),  # critical: > 2x normal
            "quality": alert("quality_vs_week_before", "ticket", 3600, below=0.9),  # warning: quality drop > 10 %
            "cache": alert("prefix_cache_hit_share", "ticket", 3600, below=0.7),  # warning: cache hit rate < 70 %
            "cost": alert("cost_per_token_vs_week_before", "ticket", 3600, above=1.5),  # warning: > 1.5x normal
        },
    ),
}
"""By choice its objectives and its alerts. Severities: critical is a page, warning a ticket; where a table has no time
that an alert must last, it is ours."""


@pytest.mark.parametrize("path", CHOICES, ids=lambda path: path.stem)
def test_a_choice_has_the_numbers_of_its_table(path: Path) -> None:
    slo = Slo.model_validate(yaml.safe_load(path.read_text()))
    objectives, alerts = TABLES[path.stem]
    assert {name: one.model_dump(exclude={"by_expert"}) for name, one in slo.objectives.items()} == objectives
    found = {name: one.model_dump(exclude={"by_expert"}, exclude_none=True) for name, one in slo.alerts.items()}
    assert found == alerts
    assert slo.window_days == 30
