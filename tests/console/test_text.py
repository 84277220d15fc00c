"""Numbers, times and foreign text."""

from __future__ import annotations

from typing import Any

import pytest

from largeforge.console.text import clean, clock, count, duration, finite, number, sparkline


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.23456, "1.235"),
        (0.0, "0.000"),
        (-6.6559, "-6.656"),
        (0.00029, "2.9e-4"),
        (48.123, "48.12"),
        (512.04, "512.0"),
        (5123.4, "5,123"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (8080, "8080"),
        (True, "yes"),
        (None, ""),
        ("nan", "nan"),
    ],
)
def test_number(value: Any, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (950, "950"), (5100, "5.1k"), (99_960, "100k"), (12_300_000, "12.3M"), (999_900, "1.0M")],
)
def test_count(value: float, text: str) -> None:
    assert count(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.21, "0.2 s"), (59.96, "1 min 00 s"), (201, "3 min 21 s"), (7500, "2 h 05 min"), (-1, "0.0 s")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_clock() -> None:
    assert [clock(41), clock(3723), clock(-5)] == ["0:41", "1:02:03", "0:00"]


def test_finite_takes_numbers_only() -> None:
    assert [finite(value) for value in (1, 2.5, "3", None, True, float("inf"), 10**400)] == [1.0, 2.5, *[None] * 5]


def test_sparkline_falls_with_the_values() -> None:
    assert sparkline([8.0, 7, 6, 5, 4, 3, 2, 1], width=8) == "█▇▆▅▄▃▂▁"
    assert sparkline([1.0] * 100, width=4) == "▁▁▁▁"
    assert sparkline([], width=4) == ""


def test_clean_keeps_words_of_other_scripts() -> None:
    assert clean("日本語 naïve نام\u200cها\n\tnext \x1b[1mline") == "日本語 naïve نام\u200cها next line"
