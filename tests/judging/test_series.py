"""How rows come together in one figure."""

from __future__ import annotations

import math

import numpy as np
import pytest

from largeforge.judging.series import Series, read


def test_a_mean_leaves_out_rows_that_do_not_count():
    series = Series([1.0, None, 0.0, 1.0])
    assert series.figure() == pytest.approx(2 / 3)
    assert series.figure([1, 2]) == 0.0
    assert math.isnan(series.figure([1]))
    assert series.rows == [0, 2, 3]


def test_a_loss_weighs_rows_by_their_tokens_and_perplexity_is_its_exponential():
    losses, tokens = [1.0, 4.0], [30.0, 10.0]
    assert Series(losses, tokens).figure() == pytest.approx(1.75)
    assert Series(losses, tokens, "exp_mean").figure() == pytest.approx(math.exp(1.75))


def test_an_area_is_that_of_all_pairs():
    values, labels = [3.0, 1.0, 2.0, 1.0], [1.0, 1.0, 0.0, 0.0]
    # 3 beats 2 and 1; 1 loses to 2 and equals 1
    assert Series(values, labels, "auc").figure() == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    assert math.isnan(Series(values, labels, "auc").figure([0, 1]))


def test_many_selections_are_computed_as_each_alone():
    random = np.random.default_rng(3)
    values, weights = random.normal(size=40).tolist(), random.integers(1, 9, size=40).astype(float).tolist()
    rows = random.integers(0, 40, size=(7, 40))
    for series in (Series(values), Series(values, weights), Series(values, [float(w > 4) for w in weights], "auc")):
        alone = [series.figure(selection.tolist()) for selection in rows]
        assert series.figures(rows).tolist() == pytest.approx(alone)


def test_right_and_wrong_answers_are_told_from_other_values():
    assert Series([1.0, 0.0, None]).is_binary
    assert not Series([1.0, 0.5]).is_binary
    assert not Series([1.0, 0.0], [2.0, 3.0]).is_binary


def test_plain_data_and_back():
    series = Series((1.0, None), (2.0, 3.0), "exp_mean")
    assert read(series.as_dict()) == series
