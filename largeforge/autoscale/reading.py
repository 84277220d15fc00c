"""Numbers from JSON that somebody else may have written."""

from __future__ import annotations

from typing import Any

MOST = 1e15
"""Beyond any number that is kept: times are seconds since the epoch."""


def number(found: Any) -> float:
    """Return a number.

    Raises ValueError where it is none, or one that cannot be counted with.
    """
    if isinstance(found, bool) or not isinstance(found, int | float) or not abs(found) < MOST:  # not a number, too
        raise ValueError(f"{str(found)[:40]!r} is not a number")
    return found


def optional(found: Any) -> float | None:
    """Return a number, or None for null."""
    return None if found is None else number(found)
