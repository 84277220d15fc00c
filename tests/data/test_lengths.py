"""Rows that do not fit the model are named; the others are described."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from largeforge.data import lengths
from largeforge.errors import DataError


def test_rows_that_fit_are_described() -> None:
    lengths.refuse([], 100, 100)
    found = lengths.describe(range(1, 101))
    assert found == lengths.Lengths(rows=100, min=1, mean=50.5, p50=50, p95=95, max=100, total=5050)


def test_no_rows() -> None:
    assert lengths.describe([]) == lengths.Lengths(0, 0, 0.0, 0, 0, 0, 0)
    assert lengths.histogram([]) == []


def test_rows_that_do_not_fit_are_named() -> None:
    with pytest.raises(DataError) as caught:
        lengths.refuse([("t.jsonl:2", 9), ("t.jsonl:4", 12)], 8, 12)
    assert str(caught.value) == (
        "2 rows longer than max_length = 8 tokens:\n"
        "  t.jsonl:2: 9 tokens\n"
        "  t.jsonl:4: 12 tokens\n"
        "Shorten or remove them, or raise max_length (the longest row needs 12) if the model allows it."
    )


def test_only_the_first_ten_are_shown() -> None:
    with pytest.raises(DataError) as caught:
        lengths.refuse([(f"t.jsonl:{line}", 9) for line in range(1, 26)], 8, 9)
    message = str(caught.value)
    assert message.startswith("25 rows longer")
    assert "t.jsonl:10: " in message
    assert "t.jsonl:11: " not in message
    assert "... and 15 more" in message


def test_a_histogram_has_round_edges() -> None:
    assert lengths.histogram([5, 6, 7, 30]) == [(5, 6, 2), (7, 8, 1), (9, 12, 0), (13, 16, 0), (17, 24, 0), (25, 32, 1)]
    assert lengths.histogram([64]) == [(49, 64, 1)]


@given(st.lists(st.integers(0, 100_000), min_size=1))
def test_a_histogram_counts_every_row_in_few_bins(sizes: list[int]) -> None:
    found = lengths.histogram(sizes)
    assert len(found) <= lengths.NUM_BINS
    for low, high, count in found:
        assert count == sum(low <= size <= high for size in sizes)
    assert sum(count for _, _, count in found) == len(sizes)


@given(st.lists(st.integers(0, 1000), min_size=1))
def test_statistics_are_ordered_and_real(sizes: list[int]) -> None:
    found = lengths.describe(sizes)
    assert found.min <= found.p50 <= found.p95 <= found.max
    assert {found.p50, found.p95} <= set(sizes)
    assert found.total == sum(sizes)
