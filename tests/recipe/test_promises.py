"""What is promised is what a load test must show."""

from __future__ import annotations

import pytest

from largeforge.recipe import promises
from largeforge.recipe.compose import compose
from largeforge.recipe.sections.rollouts import Analysis
from largeforge.recipe.sections.slos import Slo
from largeforge.recipe.validate import validate

FAST = {"indicator": "ttft", "objective": 0.95, "threshold_ms": 100}


def slo(**objectives: dict[str, object]) -> Slo:
    return Slo.model_validate({"objectives": objectives})


def test_objectives_are_gates_of_a_load_test() -> None:
    promised = slo(
        answered={"indicator": "availability", "objective": 0.999}, fast=FAST,
        whole={"indicator": "latency", "objective": 0.999, "threshold_ms": 4000},
        strict={"indicator": "latency", "objective": 0.99, "threshold_ms": 3000},
        liked={"indicator": "thumbs", "objective": 0.9},
    )  # fmt: skip
    found = promises.gates(promised)
    assert found == {"error_share": "<= 0.001", "ttft_p95_ms": "<= 100", "e2e_p99_ms": "<= 3000"}


@pytest.mark.parametrize(("share", "percentile"), [(0.95, 95), (0.999, 99), (0.93, 90), (0.5, 50), (0.2, 50)])
def test_a_share_implies_the_percentile_below_it(share: float, percentile: int) -> None:
    assert promises.percentile(share) == percentile


def test_what_a_load_test_says_itself_counts() -> None:
    words = ["+recipe=serve_quickstart", "+load_test.requests_per_second=2", "slo=platform"]
    recipe = validate(compose([*words, "+load_test.gates.ttft_p95_ms='<= 7'", "+load_test.gates.goodput_share='>= 1'"]))
    assert recipe.load_test is not None
    test = promises.load_test(recipe.load_test, recipe.serving.targets, recipe.slo)
    assert test.gates == {"error_share": "<= 0.001", "ttft_p95_ms": "<= 7", "goodput_share": ">= 1"}
    assert (test.slo.ttft_ms, test.slo.e2e_ms, test.slo.share) == (100, 0, 0.95)


def test_without_promises_nothing_is_added() -> None:
    recipe = validate(compose(["+recipe=serve_quickstart", "+load_test.requests_per_second=2"]))
    assert recipe.load_test is not None
    test = promises.load_test(recipe.load_test, recipe.serving.targets, recipe.slo)
    assert (test.gates, test.slo.is_given) == ({}, False)


def test_one_number_of_slo_changes_what_a_canary_must_keep() -> None:
    promised = slo(
        answered={"indicator": "availability", "objective": 0.998},
        whole={"indicator": "latency", "objective": 0.9, "threshold_ms": 700}, first=FAST,
        valid={"indicator": "schema_valid", "objective": 0.97},
    )  # fmt: skip
    found = promises.analysis(Analysis(), promised)
    assert found.triggers.error_share == 0.002
    assert (found.triggers.latency_ms, found.triggers.latency_share) == (700, 0.1)
    assert (found.triggers.ttft_ms, found.triggers.ttft_share) == (100, 0.05)
    assert found.errors.tolerance == 0.001, "half of the error budget"
    assert found.schema_valid.floor == 0.97
    assert found.agreement == Analysis().agreement


def test_without_promises_a_canary_has_the_limits_by_default() -> None:
    assert promises.analysis(Analysis(), slo()) == Analysis()


def test_limits_of_a_canary_that_are_given_count() -> None:
    promised = slo(answered={"indicator": "availability", "objective": 0.9}, fast={**FAST, "indicator": "latency"})
    given = Analysis(triggers={"error_share": 0.01, "latency_ms": 0}, errors={"tolerance": 0.03})
    found = promises.analysis(given, promised)
    assert found.triggers.error_share == 0.01 and not found.triggers.latency_ms
    assert found.errors.tolerance == 0.03
