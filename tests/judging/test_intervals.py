"""Intervals against published values, and against what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from largeforge.judging.intervals import mcnemar, newcombe, of_difference, of_metric, wilson
from largeforge.judging.series import Series


def test_wilson_as_newcombe_1998_tabulates_it():
    # Newcombe, Two-sided confidence intervals for the single proportion, Statistics in Medicine 17 (1998), table I
    for hits, rows, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        assert wilson(hits, rows) == pytest.approx((low, high), abs=5e-5)


def test_newcombe_as_he_tabulates_method_10():
    # the same author's paper on paired data, table III: counts e, f, g, h and the limits of method 10
    assert newcombe(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)
    assert newcombe(54, 0, 0, 0) == pytest.approx((-0.0664, 0.0664), abs=5e-5)


def test_mcnemar_is_the_binomial_test_of_the_rows_that_differ():
    assert mcnemar(12, 2) == pytest.approx(2 * (1 + 14 + 91) / 2**14)
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(3, 3) == 1.0
    assert mcnemar(1000, 1100) == pytest.approx(0.0308, abs=1e-3)


def test_all_right_is_not_certain():
    found = of_metric(Series([1.0] * 20))
    assert found.value == 1.0
    assert found.high == 1.0
    assert found.low == pytest.approx(0.8389, abs=1e-4)


def test_equal_models_leave_a_margin_of_doubt():
    same = Series([1.0, 0.0] * 30)
    found = of_difference(same, same)
    assert found.value == 0
    assert found.low < 0 < found.high
    assert found.p_value == 1.0


def test_a_few_rows_bound_nothing():
    found = of_metric(Series([0.2, 0.4]))
    assert (found.value, found.low, found.high) == (pytest.approx(0.3), -math.inf, math.inf)


def test_a_paired_difference_is_surer_than_two_metrics_apart():
    random = np.random.default_rng(1)
    hardness = random.normal(size=300)
    base, model = Series((hardness + 2).tolist()), Series((hardness + 1.9).tolist())
    found = of_difference(model, base)
    assert found.value == pytest.approx(-0.1)
    assert found.low == pytest.approx(-0.1) and found.high == pytest.approx(-0.1)
    assert of_metric(model).high > of_metric(base).low


def test_rows_that_one_of_the_models_lacks_are_left_out():
    found = of_difference(Series([1.0] * 6 + [0.0] * 4), Series([0.0] * 6 + [None] * 4))
    assert (found.value, found.rows) == (1.0, 6)


@pytest.mark.parametrize("kind", ["mean", "exp_mean", "proportion", "difference"])
def test_intervals_hold_the_truth_about_as_often_as_they_say(kind):
    random = np.random.default_rng(5)
    held, trials = 0, 200
    for _ in range(trials):
        if kind == "proportion":
            found, truth = of_metric(Series((random.random(60) < 0.8).astype(float).tolist())), 0.8
        elif kind == "difference":
            draws = random.random((2, 60))
            series = [
                Series((row < share).astype(float).tolist()) for row, share in zip(draws, (0.7, 0.5), strict=True)
            ]
            found, truth = of_difference(*series), 0.2
        else:
            values = random.normal(1.0, 0.5, size=60).tolist()
            found, truth = of_metric(Series(values, kind=kind)), 1.0 if kind == "mean" else math.e
        held += found.low <= truth <= found.high
    assert 0.9 <= held / trials <= 0.99
