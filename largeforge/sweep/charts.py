"""Charts of a sweep as SVG strings, in the style of the report's: numbers in, text out.

Places along x are percentages, so that a chart fills the width it is given. A point links to
its trial's row. Trials that are much worse than the others lie at the edge, marked by a hollow
point, so that one that diverged does not press the rest together.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from largeforge.report.charts import Scale, ticks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from largeforge.sweep.space import Space

HEIGHT = 230
_PLOT = HEIGHT - 26
_PLANE = 1000
_COLUMN = 130
"""Least width of a column of parallel coordinates, in pixels; the chart scrolls where there is less room."""
_OUTLIER = 3.0
"""Beyond this many times the distance from the best to the third quartile a value lies at the edge."""
_MAX_LABELS = 8
_MAX_NUMBERS = 5
"""Numbers of trials below the history."""
_ROOM = 40
"""Letters that fit side by side below the narrowest chart."""


@dataclass(frozen=True)
class Point:
    """One trial in a chart."""

    name: str
    value: float
    """Its objective."""
    texts: tuple[str, ...]
    """Values of the swept keys, in their order."""
    tooltip: str
    is_best: bool = False
    is_refused: bool = False


@dataclass(frozen=True)
class Axis:
    """Places 0..1 of an axis, with labels at some of them."""

    place: Callable[[str], float | None]
    labels: tuple[tuple[float, str], ...]


def objective_scale(values: Sequence[float], *, is_minimized: bool) -> Scale:
    """Return the scale of the objective, cut where values are far worse than the rest."""
    low, high = min(values), max(values)
    if len(values) >= 4 and high > low:
        ordered = sorted(values, reverse=not is_minimized)
        reach = _OUTLIER * abs(ordered[math.ceil(len(ordered) * 0.75) - 1] - ordered[0])
        if reach:
            low, high = (low, min(high, low + reach)) if is_minimized else (max(low, high - reach), high)
    room = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    floor = 0.0 if min(values) >= 0 else -math.inf
    return Scale(max(floor, low - room), high + room)


def axis(space: Space, texts: Sequence[str]) -> Axis:
    """Return the axis of a key: linear, logarithmic, or one place for each listed text."""
    parsed = [_float(text) for text in texts]
    numbers = [value for value in parsed if value is not None]
    is_numeric = len(numbers) == len(texts) and len(set(numbers)) > 1
    if not is_numeric:
        names = [value for value in space.values if value in texts] or list(dict.fromkeys(texts))
        middle = {name: (index + 0.5) / len(names) for index, name in enumerate(names)}
        step = -(-len(names) // _MAX_LABELS)
        room = max(6, _ROOM // min(len(names), _MAX_LABELS))
        return Axis(middle.get, tuple((middle[name], _shortened(name, room)) for name in names[::step]))
    ends = [space.low, space.high] if space.is_interval else numbers
    is_log = space.is_log and min(ends) > 0
    scale = _padded(min(ends), max(ends), is_log=is_log)

    def place(text: str) -> float | None:
        value = _float(text)
        return None if value is None or (is_log and value <= 0) else scale(math.log10(value) if is_log else value)

    if not space.is_interval and len(set(numbers)) <= _MAX_LABELS // 2 + 1:
        marks = sorted(set(numbers))
    else:
        marks = _log_ticks(min(ends), max(ends)) if is_log else ticks(min(ends), max(ends), about=4)
    return Axis(place, tuple((found, f"{mark:g}") for mark in marks if (found := place(repr(mark))) is not None))


def against(points: Sequence[Point], index: int, space: Space, scale: Scale, *, label: str) -> str:
    """Return the objective against one key."""
    along = axis(space, [point.texts[index] for point in points])
    dots = []
    for point in points:
        x = along.place(point.texts[index])
        if x is not None:
            dots.append(_dot(point, x * 100, scale))
    return _chart(_levels(scale) + _labels(along.labels) + "".join(dots), label)


def history(points: Sequence[Point], scale: Scale, *, is_minimized: bool, label: str) -> str:
    """Return the objective over the trials in their order, with the best so far as a line."""
    good = [point.value for point in points if not point.is_refused]
    if not good:
        return ""
    count = len(points)
    bests = list(
        itertools.accumulate(
            (math.nan if point.is_refused else point.value for point in points),
            lambda best, value: _better(best, value, is_minimized=is_minimized),
        )
    )
    places = [(index + 0.5) / count for index in range(count)]
    known = [(x, best) for x, best in zip(places, bests, strict=True) if not math.isnan(best)]
    path = "".join(
        f"{'H' if index else 'M'}{x * _PLANE:.1f}{'V' if index else ' '}{(1 - _inside(scale(best))) * _PLANE:.1f}"
        for index, (x, best) in enumerate(known)
    )
    line = (
        f'<svg class="plane" width="100%" height="{_PLOT}" viewBox="0 0 {_PLANE} {_PLANE}" '
        f'preserveAspectRatio="none"><path class="smooth" d="{path}H{_PLANE}"/></svg>'
    )
    step = -(-count // _MAX_NUMBERS)
    labels = tuple((places[index], f"#{points[index].name}") for index in range(0, count, step))
    dots = "".join(_dot(point, x * 100, scale) for point, x in zip(points, places, strict=True))
    return _chart(_levels(scale) + _labels(labels) + line + dots, label)


def parallel(points: Sequence[Point], spaces: Sequence[Space], scale: Scale, objective: str) -> str:
    """Return parallel coordinates: an axis for each key, the objective's last; the best lines strongest."""
    axes = [axis(space, [point.texts[index] for point in points]) for index, space in enumerate(spaces)]
    columns = [(index + 0.02) / len(spaces) * 0.96 for index in range(len(spaces))] + [0.98]
    levels = tuple((scale(tick), f"{tick:.4g}") for tick in ticks(scale.low, scale.high, about=4))
    everything = [*(found.labels for found in axes), levels]
    uprights = "".join(
        f'<line class="upright" x1="{x * 100:.2f}%" x2="{x * 100:.2f}%" y1="0" y2="{_PLOT}"/>'
        + "".join(_beside(x, (1 - place) * _PLOT, text) for place, text in labels)
        for x, labels in zip(columns, everything, strict=True)
    )
    ordered = sorted(points, key=lambda point: (point.is_best, not point.is_refused))
    lines = []
    for point in ordered:
        places = [found.place(text) for found, text in zip(axes, point.texts, strict=True)]
        ys = [*(place for place in places if place is not None), _inside(scale(point.value))]
        if len(ys) == len(columns):
            nodes = " ".join(f"{x * _PLANE:.1f},{(1 - y) * _PLANE:.1f}" for x, y in zip(columns, ys, strict=True))
            name = "best" if point.is_best else "refused" if point.is_refused else "other"
            lines.append(f'<polyline class="{name}" points="{nodes}"><title>{escape(point.tooltip)}</title></polyline>')
    names = [*(space.key.rpartition(".")[2] for space in spaces), objective]
    heads = "".join(_text("tick head", x, HEIGHT - 4, name, _anchor(x)) for x, name in zip(columns, names, strict=True))
    plane = (
        f'<svg class="plane" width="100%" height="{_PLOT}" viewBox="0 0 {_PLANE} {_PLANE}" '
        f'preserveAspectRatio="none">{"".join(lines)}</svg>'
    )
    least = f' style="min-width: {_COLUMN * len(columns)}px"'
    label = f"Parallel coordinates of {', '.join(names)}"
    return _chart(plane + uprights + heads, label, attributes=f'class="chart wide"{least}')


def _chart(body: str, label: str, *, attributes: str = 'class="chart"') -> str:
    about = f'role="img" aria-label="{escape(label)}"'
    return f'<svg {attributes} {about} width="100%" height="{HEIGHT}">{body}</svg>'


def _dot(point: Point, x: float, scale: Scale) -> str:
    y = scale(point.value)
    name = "best" if point.is_best else "refused" if point.is_refused else "trial"
    name += "" if 0 <= y <= 1 else " edge"
    radius = 7 if point.is_best else 5
    cy = (1 - _inside(y)) * _PLOT
    return (
        f'<a href="#trial-{escape(point.name)}"><circle class="{name}" cx="{x:.2f}%" cy="{cy:.1f}" r="{radius}">'
        f"<title>{escape(point.tooltip)}</title></circle></a>"
    )


def _levels(scale: Scale) -> str:
    return "".join(
        f'<line class="grid" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tick" x="-8" y="{y + 4:.1f}" text-anchor="end">{escape(f"{tick:.4g}")}</text>'
        for tick in ticks(scale.low, scale.high, about=5)
        for y in [(1 - scale(tick)) * _PLOT]
    )


def _labels(labels: Sequence[tuple[float, str]]) -> str:
    return "".join(_text("tick", place, HEIGHT - 4, text, _anchor(place)) for place, text in labels)


def _beside(x: float, y: float, text: str) -> str:
    anchor, shift = ("start", 6) if x < 0.9 else ("end", -6)
    return _text("tick on", x, y + 4, text, anchor, shift)


def _text(name: str, x: float, y: float, text: str, anchor: str, shift: int = 0) -> str:
    place = f'x="{x * 100:.2f}%" dx="{shift}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{name}" {place}>{escape(text)}</text>'


def _shortened(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _anchor(place: float) -> str:
    return "start" if place < 0.04 else "end" if place > 0.96 else "middle"


def _padded(low: float, high: float, *, is_log: bool) -> Scale:
    if is_log:
        low, high = math.log10(low), math.log10(high)
    room = (high - low) * 0.05
    return Scale(low - room, high + room)


def _log_ticks(low: float, high: float) -> list[float]:
    """Return the powers of ten between two values, with 2 and 5 times them where there are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(powers) <= 3 else (1,)
    found = [factor * 10.0**power for power in powers for factor in factors]
    return [tick for tick in found if low * 0.999 <= tick <= high * 1.001]


def _inside(place: float) -> float:
    return min(max(place, 0.0), 1.0)


def _better(best: float, value: float, *, is_minimized: bool) -> float:
    if math.isnan(best) or math.isnan(value):
        return value if math.isnan(best) else best
    return min(best, value) if is_minimized else max(best, value)


def _float(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
