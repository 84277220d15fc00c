"""Charts as SVG strings: pure functions from numbers to text.

A chart fills the width that it is given: places along x are percentages and strokes do not scale,
so that letters stay readable on a phone. Colours come from the page's style sheet by class.
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

from largeforge.console.text import count, finite, number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_POINTS = 500
_UNITS = 1000
"""Width and height of the plane that curves are drawn in."""


def smooth(values: Sequence[float | None], *, share: float = 0.06) -> list[float | None]:
    """Return the mean of each value's surroundings, about `share` of all values, as many before it as after it.

    Centred, so that a falling curve is not drawn above its points as a running average would.
    """
    sums, counts = [0.0], [0]
    for value in values:
        sums.append(sums[-1] + (value or 0.0))
        counts.append(counts[-1] + (value is not None))
    reach = round(len(values) * share / 2)
    result: list[float | None] = []
    for index, value in enumerate(values):
        half = min(reach, index, len(values) - 1 - index)
        low, high = index - half, index + half + 1
        result.append((sums[high] - sums[low]) / (counts[high] - counts[low]) if value is not None else None)
    return result


def thin(values: Sequence[float | None], *, limit: int = MAX_POINTS) -> list[int]:
    """Return at most `limit` indices that keep the lowest and highest value of each stretch, and both ends."""
    if len(values) <= limit:
        return list(range(len(values)))
    num_buckets = max(1, (limit - 2) // 2)
    kept = {0, len(values) - 1}
    for bucket in range(num_buckets):
        start, end = bucket * len(values) // num_buckets, (bucket + 1) * len(values) // num_buckets
        known = [(value, index) for index in range(start, end) if (value := values[index]) is not None]
        if known:
            kept |= {min(known)[1], max(known)[1]}
    return sorted(kept)


def ticks(low: float, high: float, *, about: int = 4) -> list[float]:
    """Return round numbers between two values, steps of 1, 2, 2.5 or 5 times a power of ten."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low] if math.isfinite(low) else []
    rough = (high - low) / max(1, about)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


class Scale:
    """Maps values to 0..1; one value alone lies in the middle."""

    def __init__(self, low: float, high: float):
        self.low, self.high = low, high

    def __call__(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5


def span(values: Sequence[float | None], *, margin: float = 0.0) -> Scale | None:
    """Return the scale of the values that are known, with some room around them; None without any."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    low, high = min(known), max(known)
    room = (high - low) * margin
    if high == low:
        room = abs(high) * 0.1 or 1.0
    floor = 0.0 if low >= 0 else -math.inf
    return Scale(max(floor, low - room), high + room)


def line_chart(
    x: Sequence[float],
    lines: Sequence[tuple[str, Sequence[float | None]]],
    *,
    label: str,
    domain: tuple[float, float] | None = None,
    points: Sequence[tuple[float, float]] = (),
    marks: Sequence[tuple[float, str]] = (),
    height: int = 220,
    num_ticks: int = 4,
    has_x_labels: bool = True,
    from_zero: bool = False,
    as_text: Callable[[float], str] | None = None,
) -> str:
    """Return curves over shared x; each line is (class, values), None is a gap. Empty when nothing is known.

    `points` are one more curve that has fewer and other x; `marks` are (x, class) on the axis; `domain` is the range
    of x where the curves do not fill it.
    """
    along = Scale(*domain) if domain else span(x)
    up = span([*(value for _, values in lines for value in values), *(value for _, value in points)], margin=0.06)
    if along is None or up is None:
        return ""
    up = Scale(min(0.0, up.low), up.high) if from_zero else up
    if domain is None and len(set(x)) > 1:
        along = Scale(min(x), max(x))
    plot = height - 22 if has_x_labels else height
    paths = "".join(_curve(name, x, values, along, up) for name, values in lines)
    paths += _curve("heldout", [at for at, _ in points], [value for _, value in points], along, up) if points else ""
    paths += "".join(_dot("heldout", at, value, along, up) for at, value in points)
    ticked = "".join(_mark(at, name, along, plot) for at, name in marks)
    grid = "".join(_level(tick, up, plot, as_text or _round_number) for tick in ticks(up.low, up.high, about=num_ticks))
    places = ticks(along.low, along.high, about=3) if has_x_labels else []
    labels = "".join(_x_label(tick, along, height) for tick in places)
    return (
        f'<svg class="chart" role="img" aria-label="{escape(label)}" width="100%" height="{height}">{grid}'
        f'<svg class="plane" width="100%" height="{plot}" viewBox="0 0 {_UNITS} {_UNITS}" preserveAspectRatio="none">'
        f'{paths}</svg>{ticked}{labels}<line class="cross" y1="0" y2="{plot}" x1="0" x2="0"/></svg>'
    )


def _curve(name: str, x: Sequence[float], values: Sequence[float | None], along: Scale, up: Scale) -> str:
    parts: list[str] = []
    is_new, last = True, ""
    for position, value in zip(x, values, strict=True):
        if value is None:
            is_new = True
            continue
        last = f"{along(position) * _UNITS:.1f} {(1 - up(value)) * _UNITS:.1f}"
        parts.append(f"{'M' if is_new else 'L'}{last}")
        is_new = False
    dot = f'<path class="{name} dot" d="M{last}h0"/>' if len(parts) == 1 else ""
    return f'<path class="{name}" d="{"".join(parts)}"/>{dot}'


def _dot(name: str, x: float, value: float, along: Scale, up: Scale) -> str:
    place = f"{along(x) * _UNITS:.1f} {(1 - up(value)) * _UNITS:.1f}"
    return f'<path class="{name} point" d="M{place}h0"/>'


def _mark(x: float, name: str, along: Scale, plot: int) -> str:
    place = f"{along(x) * 100:.2f}%"
    return f'<line class="{escape(name)}" x1="{place}" x2="{place}" y1="{plot - 9}" y2="{plot}"/>'


def _round_number(value: float) -> str:
    return f"{value:g}" if value == 0 or 1e-4 <= abs(value) < 1e5 else number(float(f"{value:.3g}"))


def _level(value: float, up: Scale, plot: int, as_text: Callable[[float], str]) -> str:
    y = (1 - up(value)) * plot
    return (
        f'<line class="grid" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tick" x="-8" y="{y + 4:.1f}" text-anchor="end">{escape(as_text(value))}</text>'
    )


def _x_label(value: float, along: Scale, height: int) -> str:
    place = along(value)
    anchor = "start" if place < 0.05 else "end" if place > 0.95 else "middle"
    text = escape(f"{value:g}" if value < 1e5 else count(value))
    return f'<text class="tick" x="{place * 100:.2f}%" y="{height - 4}" text-anchor="{anchor}">{text}</text>'


def time_bars(bars: Sequence[tuple[float, float, str]], total: float, *, label: str) -> str:
    """Return one row of a timeline: bars as (start, end, class), in seconds of `total`; short ones stay visible."""
    total = total if finite(total) and total > 0 else 1.0
    lines = "".join(
        f'<line class="grid" x1="{tick / total * 100:.2f}%" x2="{tick / total * 100:.2f}%" y1="-25%" y2="125%"/>'
        for tick in time_ticks(total)
    )
    shapes = "".join(_bar(start, end, total, name) for start, end, name in bars)
    return f'<svg class="bar" role="img" aria-label="{escape(label)}" width="100%" height="22">{lines}{shapes}</svg>'


def _bar(start: float, end: float, total: float, name: str) -> str:
    width = max(min(max((end - start) / total, 0.0), 1.0) * 100, 0.4)
    left = min(min(max(start / total, 0.0), 1.0) * 100, 100 - width)
    return f'<rect class="{escape(name)}" x="{left:.2f}%" width="{width:.2f}%" y="4" height="14" rx="3"/>'


def time_axis(total: float, as_text: Callable[[float], str]) -> str:
    """Return the axis below the bars of a timeline."""
    total = total if finite(total) and total > 0 else 1.0
    texts = []
    for tick in time_ticks(total):
        place = tick / total * 100
        anchor = "start" if place < 3 else "end" if place > 98 else "middle"
        texts.append(
            f'<text class="tick" x="{place:.2f}%" y="14" text-anchor="{anchor}">{escape(as_text(tick))}</text>'
        )
    return f'<svg class="axis" aria-hidden="true" width="100%" height="20">{"".join(texts)}</svg>'


def time_ticks(total: float) -> list[float]:
    """Return about five round times from 0 to `total` seconds."""
    steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400]
    step = next((step for step in steps if total / step <= 6), 0)
    if total < 1:
        return [0.0]
    if not step:
        return ticks(0.0, total, about=5)
    return [float(tick) for tick in range(0, math.floor(total) + 1, step)]
