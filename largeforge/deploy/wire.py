"""Steps as JSON, from the process that decides to the one that carries out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from largeforge.deploy import steps


def encoded(given: Sequence[steps.Step]) -> list[dict[str, Any]]:
    """Return steps as plain data."""
    return [_plain(step) for step in given]


def decoded(given: Sequence[dict[str, Any]]) -> list[steps.Step]:
    """Return the steps that `encoded` made plain."""
    return [_step(entry) for entry in given]


def _plain(step: steps.Step) -> dict[str, Any]:
    assert is_dataclass(step)
    nested = {entry.name: _value(getattr(step, entry.name)) for entry in fields(step)}
    return {"step": type(step).__name__, **nested}


def _value(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_value(item) for item in value]
    return _plain(value) if isinstance(value, steps.Step) else value


def _step(entry: dict[str, Any]) -> steps.Step:
    kind = getattr(steps, entry["step"])
    values = {name: _back(value) for name, value in entry.items() if name != "step"}
    step: steps.Step = kind(**values)
    return step


def _back(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_back(item) for item in value)
    return _step(value) if isinstance(value, dict) and "step" in value else value
