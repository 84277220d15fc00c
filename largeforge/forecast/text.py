"""Numbers of a forecast as a person reads them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from largeforge.estimate.memory import GIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from largeforge.estimate.ranges import Range
    from largeforge.forecast.fixes import Fix


def gib(size: float) -> str:
    """Return bytes in GiB."""
    return f"{size / GIB:.1f}" if size >= 0.05 * GIB else f"{size / GIB:.2f}"


def duration(hours: Range) -> str:
    """Return a range of hours with its unit, for example `40-75 min`."""
    units = (("s", 3600.0, 1 / 30), ("min", 60.0, 2.0), ("h", 1.0, 100.0), ("days", 1 / 24, math.inf))
    unit, factor = next((unit, factor) for unit, factor, below in units if hours.expected <= below)
    low, high = _digits(hours.low * factor), _digits(hours.high * factor)
    return f"{low} {unit}" if low == high else f"{low}-{high} {unit}"


def span(found: Range) -> str:
    """Return a range of a plain number, for example `40-75`."""
    low, high = _digits(found.low), _digits(found.high)
    return low if low == high else f"{low}-{high}"


def count(number: float) -> str:
    """Return a large number with its power of a thousand, for example `1.2 M`."""
    for size, name in ((1e12, " T"), (1e9, " B"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{_digits(number / size)}{name}"
    return f"{number:.0f}"


def dollars(cost: Range) -> str:
    """Return a range of US dollars, for example `$1.2-2.5`."""
    low, high = _digits(cost.low), _digits(cost.high)
    return f"${low}" if low == high else f"${low}-{high}"


def fixes_text(fixes: Sequence[Fix]) -> str:
    """Return what to paste, one fix a line, with what it saves."""
    width = max((len(str(fix.change)) for fix in fixes), default=0)
    return "\n".join(f"  {fix.change!s:<{width}}  {_gain(fix)}" for fix in fixes)


def _gain(fix: Fix) -> str:
    how = {"fits": "fits", "tight": "just fits"}.get(fix.forecast.verdict, "still too big")
    effect = f" ({fix.change.effect})" if fix.change.effect else ""
    if fix.saves_bytes <= 0 or fix.forecast.memory is None:
        return f"{how}{effect}"
    return f"saves {gib(fix.saves_bytes)} GiB: {gib(fix.forecast.needed_bytes)} GiB, {how}{effect}"


def _digits(value: float) -> str:
    """Return two significant digits, and never an exponent."""
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"
