"""Foreign text made safe, and numbers as people read them; shared by the console and the report."""

from __future__ import annotations

import itertools
import math
import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_ESCAPE_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_JOINERS = "\u200c\u200d"
_SPARKS = "▁▂▃▄▅▆▇█"


def clean(text: object) -> str:
    """Return text as one line that cannot move a cursor, change a colour or reverse its reading order."""
    return " ".join(line.strip() for line in clean_lines(text)).strip()


def clean_lines(text: object) -> list[str]:
    """Return the lines of a text without control characters; tabs become spaces."""
    plain = _ESCAPE_SEQUENCE.sub("", str(text)).replace("\t", "    ")
    return ["".join(map(_visible, line)) for line in plain.splitlines()] or [""]


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cs":
        return "\ufffd"
    return "" if category in ("Cc", "Cf") and character not in _JOINERS else character


def finite(value: object) -> float | None:
    """Return a value as a float, or None when it is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def number(value: object) -> str:
    """Return a metric, a cell or a setting for reading: about four significant digits."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, float):
        return "" if value is None else clean(value)
    size = abs(value)
    if not math.isfinite(value):
        return str(value)
    if size >= 2 and value.is_integer() and size < 1e15:
        return f"{value:,.0f}"
    if size >= 1000:
        return f"{value:,.0f}" if size < 1e15 else f"{value:.3g}"
    if size >= 0.01 or size == 0:
        return f"{value:.{1 if size >= 100 else 2 if size >= 10 else 3}f}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def count(value: float) -> str:
    """Return a quantity in three digits: 950, 5.1k, 12.3M."""
    for limit, divisor, suffix in ((1e3, 1, ""), (1e6, 1e3, "k"), (1e9, 1e6, "M"), (1e12, 1e9, "G")):
        if abs(value) < limit * 0.9995:
            scaled = value / divisor
            return f"{scaled:.0f}{suffix}" if abs(scaled) >= 99.5 or not suffix else f"{scaled:.1f}{suffix}"
    return f"{value:.1e}"


def dollars(amount: float) -> str:
    """Return an amount of US dollars: $0.004, $0.38, $12.40, $1,240."""
    if 0 < amount < 0.1:
        return f"${float(f'{amount:.1g}'):.4f}".rstrip("0") if amount >= 5e-5 else "<$0.0001"
    return f"${amount:,.2f}" if amount < 1000 else f"${amount:,.0f}"


def clock(seconds: float) -> str:
    """Return a time span as 0:41 or 1:02:03."""
    minutes, second = divmod(max(0, round(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def duration(seconds: float) -> str:
    """Return a time span in words: 0.2 s, 41 s, 3 min 21 s, 2 h 05 min."""
    if seconds < 59.95:
        return f"{max(0.0, seconds):.1f} s"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours} h {minute:02} min" if hours else f"{minute} min {second:02} s"


def sparkline(values: Sequence[float], *, width: int) -> str:
    """Return values as a row of `width` or fewer block characters, each the mean of its share."""
    if not values:
        return ""
    width = min(width, len(values))
    edges = [index * len(values) // width for index in range(width + 1)]
    means = [sum(values[start:end]) / (end - start) for start, end in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(_SPARKS) - 1) / (high - low) if high > low else 0
    return "".join(_SPARKS[round((mean - low) * scale)] for mean in means)
