"""Arithmetic with uncertain quantities keeps their order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from largeforge.estimate.ranges import Range, exactly

RANGES = st.lists(st.floats(0.1, 1e6), min_size=3, max_size=3).map(lambda values: Range(*sorted(values)))


@given(RANGES, RANGES, st.floats(0, 1e6))
def test_sums_products_and_quotients_stay_in_order(one: Range, other: Range, factor: float) -> None:
    for found in (one + other, one + factor, one * factor, one.divides(factor)):
        assert found.low <= found.expected <= found.high


def test_values_are_added_scaled_and_turned_round() -> None:
    found = Range(1, 2, 4)
    assert found + Range(1, 1, 1) == Range(2, 3, 5)
    assert found * 3 == Range(3, 6, 12)
    assert found.divides(8) == Range(2, 4, 8)
    assert exactly(2) == Range(2, 2, 2)
    assert (found * (1 / 3)).as_list() == [0.3333, 0.6667, 1.333]


def test_a_range_out_of_order_is_a_programming_error() -> None:
    with pytest.raises(AssertionError):
        Range(2, 1, 3)
