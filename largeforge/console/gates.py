"""What a gate decided, in words; shared by the console and the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from largeforge.console.text import clean, finite, number

if TYPE_CHECKING:
    from collections.abc import Mapping


def outcome(gate: Mapping[str, Any]) -> str:
    """Return `passed`, `failed` or `not enough data`."""
    if gate.get("passed") is True:
        return "passed"
    return "not enough data" if gate.get("outcome") == "not enough data" else "failed"


def figure(gate: Mapping[str, Any]) -> str:
    """Return the value that was judged, empty where there is none."""
    return number(gate.get("value")) if gate.get("value") is not None else ""


def around(gate: Mapping[str, Any]) -> str:
    """Return the interval, how many rows it is from and how many would decide, and what else there is to say."""
    low, high, rows, needed = (finite(gate.get(name)) for name in ("low", "high", "rows", "needed"))
    parts = [f"{number(low)} to {number(high)}"] if low is not None and high is not None else []
    parts += [f"{rows:.0f} rows"] if rows else []
    parts += [f"about {needed:.0f} would decide"] if needed else []
    parts += [clean(gate["note"])] if gate.get("note") else []
    return ", ".join(parts)
