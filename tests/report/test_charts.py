"""Charts: what is drawn for curves that are odd, and for ones that are long."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from largeforge.report import charts

if TYPE_CHECKING:
    from collections.abc import Sequence


def draw(x: Sequence[float], values: Sequence[float | None]) -> str:
    svg = charts.line_chart(x, [("raw", values)], label="Loss & <co>")
    if svg:
        ET.fromstring(svg)
    return svg


@pytest.mark.parametrize(
    "values",
    [
        [3.0],
        [2.0, 2.0, 2.0],
        [0.0, 0.0],
        [None, 1.0, None],
        [1e-300, 1e300],
        [-5.0, 5.0],
        [1e-9, 2e-9],
        [7.0, None, 5.0],
    ],
)
def test_odd_curves_are_drawn(values: list[float | None]) -> None:
    svg = draw([float(step) for step in range(len(values))], values)
    assert 'class="raw' in svg and "nan" not in svg and "inf" not in svg


def test_nothing_known_draws_nothing() -> None:
    assert draw([], []) == "" and draw([1.0, 2.0], [None, None]) == ""


def test_a_gap_splits_the_curve() -> None:
    assert draw([1, 2, 3, 4], [4.0, None, 2.0, 1.0]).split('d="')[1].count("M") == 2


def test_points_at_the_same_step_are_drawn() -> None:
    assert draw([5.0, 5.0], [1.0, 2.0])


def test_a_long_curve_keeps_its_spikes_and_ends() -> None:
    values: list[float | None] = [1.0 + math.sin(index / 50) for index in range(20_000)]
    values[7777], values[123] = 99.0, -99.0
    kept = charts.thin(values)
    assert len(kept) <= charts.MAX_POINTS and {0, 123, 7777, 19_999} <= set(kept) and kept == sorted(kept)


def test_smoothing_follows_a_slope_without_lag() -> None:
    line: list[float | None] = [float(index) for index in range(200)]
    assert charts.smooth(line) == pytest.approx(line)


def test_smoothing_leaves_gaps_where_values_are_missing() -> None:
    result = charts.smooth([1.0, None, 3.0] * 40)
    assert [value is None for value in result] == [False, True, False] * 40


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2.5, 5, 7.5, 10]),
        (0.41, 7.1, [2, 4, 6]),
        (3, 3, [3]),
        (0, math.inf, []),
        (1.0, 1.0009, [1.0, 1.00025]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    found = charts.ticks(low, high)
    assert found[: len(expected)] == pytest.approx(expected)
    assert len(found) <= 6


@pytest.mark.parametrize(("start", "end", "total"), [(0, 10, 10), (5, 5, 10), (9, 99, 10), (0, 0, 0), (-1, 2, 1e9)])
def test_time_bars_stay_inside_and_visible(start: float, end: float, total: float) -> None:
    rect = ET.fromstring(charts.time_bars([(start, end, "done")], total, label="x")).find("rect")
    assert rect is not None
    left, width = (float(rect.attrib[name].rstrip("%")) for name in ("x", "width"))
    assert left >= 0 and width >= 0.4 and left + width <= 100.01


@pytest.mark.parametrize("total", [0.0, 0.3, 5, 78, 3600, 86_400, 1e7])
def test_time_axis_has_a_few_labels(total: float) -> None:
    assert 1 <= charts.time_axis(total, str).count("<text") <= 8
