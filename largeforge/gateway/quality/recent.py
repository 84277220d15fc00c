"""A memory of the latest things by their ids that never grows beyond a bound, and costs next to nothing to fill."""

from __future__ import annotations

from typing import Generic, TypeVar

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """At least the latest half of `most` things; the older half goes at once, since to drop them singly takes longer
    than to note them."""

    __slots__ = ("_half", "_new", "_old")

    def __init__(self, most: int):
        self._half = max(1, most // 2)
        self._new: dict[str, Value] = {}
        self._old: dict[str, Value] = {}

    def put(self, key: str, value: Value) -> None:
        """Note something, in the place of what was noted under its id before."""
        self._new[key] = value
        if len(self._new) >= self._half:
            self._old, self._new = self._new, {}

    def get(self, key: str) -> Value | None:
        """Return what was noted, None where that is nothing, or too long ago."""
        found = self._new.get(key)
        return self._old.get(key) if found is None else found
