"""A model beside its baselines."""

from __future__ import annotations

import pytest

from largeforge.judging.comparison import Comparison, regressions, slices_of
from largeforge.judging.series import Series


def test_metrics_of_a_model_of_its_baselines_and_between_them():
    model = {"exact_match": Series([1.0] * 8 + [0.0] * 2), "loss": Series([1.0] * 10)}
    base = {"exact_match": Series([0.0] * 10), "loss": Series([3.0] * 10)}
    written = {"exact_match": Series([1.0] * 10)}
    found = Comparison(model, {"base": base, "old": written}).intervals()
    assert {name: round(interval.value, 3) for name, interval in found.items()} == {
        "exact_match": 0.8, "loss": 1.0, "base.exact_match": 0.0, "base.loss": 3.0, "vs_base.exact_match": 0.8,
        "vs_base.loss": -2.0, "old.exact_match": 1.0, "vs_old.exact_match": -0.2,
    }  # fmt: skip
    assert found["vs_base.exact_match"].p_value == pytest.approx(2 / 2**8)
    assert found["vs_base.exact_match"].low > 0 > found["vs_old.exact_match"].value


def test_what_was_measured_of_two_models_together_stands_under_the_baseline():
    alone, pairs = {"exact_match": Series([1.0] * 6)}, {"base": {"win_rate": Series([1.0, 0.5, 0.0, 1.0, None, 1.0])}}
    found = Comparison(alone, {"base": alone}, pairs).intervals()
    assert set(found) == {"exact_match", "base.exact_match", "vs_base.exact_match", "vs_base.win_rate"}
    assert (found["vs_base.win_rate"].value, found["vs_base.win_rate"].rows) == (0.7, 5)


def test_only_metrics_over_the_same_rows_are_compared_and_sliced():
    own = {"loss": Series([1.0, 3.0]), "refusal_rate": Series([1.0], over="unsafe.jsonl")}
    comparison = Comparison(own, {"old": {"refusal_rate": Series([1.0, 0.0])}})
    assert comparison.shared("old") == []
    assert comparison.sliced({"all": [0, 1]}) == [["all", 2, 2.0]]


def test_a_higher_confidence_is_a_wider_interval():
    series = {"exact_match": Series([1.0] * 30 + [0.0] * 20)}
    wide, narrow = (Comparison(series, confidence=level).intervals()["exact_match"] for level in (0.99, 0.8))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_rows_are_divided_by_file_and_by_kept_columns():
    rows = [
        {"source": "a.jsonl:1", "slices": {"lang": "de"}}, {"source": "a.jsonl:2", "slices": {"lang": "en"}},
        {"source": "b.jsonl:1", "slices": {"lang": "de", "tier": "gold"}},
    ]  # fmt: skip
    assert slices_of(rows) == {"file a.jsonl": [0, 1], "file b.jsonl": [2], "lang de": [0, 2], "lang en": [1]}
    assert slices_of([{"source": "a.jsonl:1"}, {"source": "a.jsonl:2"}]) == {}


def test_each_slice_has_its_own_figures():
    series = {"exact_match": Series([1.0, 0.0, None]), "loss": Series([1.0, 2.0, 3.0])}
    assert Comparison(series).sliced({"one": [0, 1], "other": [2]}) == [["one", 2, 0.5, 1.5], ["other", 1, "", 3.0]]


def test_the_worst_regressions_come_first():
    before = {0: 1.0, 1: 1.0, 2: 0.2, 3: 1.0}
    after = {0: 0.5, 1: 0.0, 2: 0.9}
    assert regressions(after, before, 5) == [1, 0]
    assert regressions(after, before, 1) == [1]
