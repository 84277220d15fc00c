"""What is wrong with one row, in words that show little of it."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    Rows = Iterator[tuple[int, "dict[str, Any] | Fault"]]
    """Line, and the object on it or the reason why there is none."""

LINE_LIMIT_BYTES = 16 * 2**20
RAW_CHARACTERS = 4000
"""How much of a bad row is kept."""
SHOWN_CHARACTERS = 60
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = SHOWN_CHARACTERS - 10


class Fault(str):
    """Why there is no row in a place, with what stands there instead."""

    __slots__ = ("raw",)
    raw: str

    def __new__(cls, reason: str, raw: bytes | str = "") -> Fault:
        fault = super().__new__(cls, reason)
        fault.raw = raw[:RAW_CHARACTERS].decode(errors="replace") if isinstance(raw, bytes) else raw[:RAW_CHARACTERS]
        return fault


class RowError(ValueError):
    """One row cannot be used; the message has the key, the value abbreviated, and the rule."""


def show(value: Any) -> str:
    """Return `value` for an error message: at most 60 characters, control characters escaped."""
    shown = "null" if value is None else _REPR.repr(value)
    return shown if len(shown) <= SHOWN_CHARACTERS else shown[: SHOWN_CHARACTERS - 3] + "..."


def missing(key: str, row: dict[str, Any]) -> str:
    """Return that a key of a row is not there, and which keys are."""
    state = "is null" if key in row else "is missing"
    return f"{key} {state}; the row has " + (f"the keys {show(', '.join(map(str, row)))}" if row else "no keys")
