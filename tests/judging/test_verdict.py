"""What a gate decides from a value, its interval and its rows."""

from __future__ import annotations

import math

import pytest

from largeforge.judging.verdict import decide
from largeforge.recipe.evaluation import parse_condition

CONDITION = parse_condition(">= 0.85")


def interval(low, high, rows=100):
    return {"low": low, "high": high, "rows": rows}


def gate(value, around, *, by_interval=True, condition=CONDITION):
    return decide("exact_match", condition, value, around, by_interval=by_interval)


def test_a_gate_passes_when_the_whole_interval_does():
    found = gate(0.9, interval(0.86, 0.95))
    assert (found.outcome, found.passed) == ("pass", True)
    assert found.as_dict() == {
        "metric": "exact_match", "condition": ">= 0.85", "value": 0.9, "outcome": "pass", "low": 0.86, "high": 0.95,
        "rows": 100, "passed": True,
    }  # fmt: skip


def test_a_value_that_does_not_meet_the_condition_fails_however_wide_its_interval():
    found = gate(0.84, interval(0.7, 0.95))
    assert (found.outcome, found.passed) == ("fail", False)
    assert str(found) == "exact_match is 0.84 (0.7 to 0.95), must be >= 0.85"


def test_a_good_value_from_few_rows_is_undecided_and_says_how_many_would_do():
    found = gate(0.9, interval(0.8, 0.96))
    assert (found.outcome, found.passed) == ("not enough data", False)
    assert found.needed == 400  # twice as sure with four times the rows
    assert str(found) == (
        "exact_match is 0.9 (0.8 to 0.96), must be >= 0.85: 100 rows are not enough to be sure, about 400 would decide"
    )


def test_on_the_threshold_no_number_of_rows_is_advised():
    assert gate(0.85, interval(0.8, 0.9)).needed == 0
    assert gate(0.9, interval(-math.inf, math.inf, rows=2)).needed == 0


def test_by_value_alone_the_interval_is_only_shown():
    found = gate(0.9, interval(0.8, 0.96), by_interval=False)
    assert (found.outcome, found.low) == ("pass", 0.8)


def test_a_metric_without_an_interval_is_judged_by_its_value():
    assert gate(0.9, None).passed
    assert not gate(0.8, None).passed


@pytest.mark.parametrize("value", [None, math.nan])
def test_a_metric_that_was_not_computed_fails(value):
    found = gate(value, None)
    assert found.outcome == "fail"
    assert str(found) == "exact_match is unknown, must be >= 0.85"


def test_a_lower_bound_counts_for_greater_and_an_upper_one_for_less():
    below = parse_condition("< 0.5")
    assert gate(0.4, interval(0.1, 0.49), condition=below).passed
    assert gate(0.4, interval(0.1, 0.5), condition=below).outcome == "not enough data"
