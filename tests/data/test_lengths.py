"""Rows that do not fit the model are named; the others are described."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from largeforge.data import lengths
from largeforge.errors import DataError


def rows(*sizes: int) -> list[dict[str, object]]:
    return [{"size": size, "source": f"t.jsonl:{line}"} for line, size in enumerate(sizes, start=1)]


def test_rows_that_fit_are_described() -> None:
    found = lengths.check(rows(*range(1, 101)), lambda row: row["size"], 100)
    assert found == lengths.Lengths(rows=100, min=1, mean=50.5, p50=50, p95=95, max=100, total=5050)


def test_no_rows() -> None:
    assert lengths.check([], lambda row: 1, 8) == lengths.Lengths(0, 0, 0.0, 0, 0, 0, 0)


def test_rows_that_do_not_fit_are_named() -> None:
    with pytest.raises(DataError) as caught:
        lengths.check(rows(8, 9, 3, 12), lambda row: row["size"], 8)
    assert str(caught.value) == (
        "2 rows longer than max_length = 8 tokens:\n"
        "  t.jsonl:2: 9 tokens\n"
        "  t.jsonl:4: 12 tokens\n"
        "Shorten or remove them, or raise max_length (the longest row needs 12) if the model allows it."
    )


def test_only_the_first_ten_are_shown() -> None:
    with pytest.raises(DataError) as caught:
        lengths.check(rows(*[9] * 25), lambda row: row["size"], 8)
    message = str(caught.value)
    assert message.startswith("25 rows longer")
    assert "t.jsonl:10: " in message
    assert "t.jsonl:11: " not in message
    assert "... and 15 more" in message


@given(st.lists(st.integers(0, 1000), min_size=1))
def test_statistics_are_ordered_and_real(sizes: list[int]) -> None:
    found = lengths.describe(sizes)
    assert found.min <= found.p50 <= found.p95 <= found.max
    assert {found.p50, found.p95} <= set(sizes)
    assert found.total == sum(sizes)
