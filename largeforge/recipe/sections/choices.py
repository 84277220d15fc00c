"""Sections whose fields depend on their `name`: the `Config` of an extension module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from largeforge.recipe import extensions

if TYPE_CHECKING:
    from typing import TypeAlias

    from largeforge.recipe.base import Extension
    from largeforge.recipe.training import TrainingMethod

    Method: TypeAlias = TrainingMethod
    Adapter: TypeAlias = Extension
    Launcher: TypeAlias = Extension
    Evaluator: TypeAlias = Extension
    Exporter: TypeAlias = Extension
    Quantization: TypeAlias = Extension
    Router: TypeAlias = Extension
    Tracker: TypeAlias = Extension

_KINDS = {
    "Method": "method", "Adapter": "adapter", "Launcher": "launcher", "Evaluator": "evaluation", "Exporter": "export",
    "Quantization": "quantization", "Router": "router", "Tracker": "tracking",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Make a type when it is first asked for: it imports all extensions of its kind, and a stage needs few."""
    if name not in _KINDS:
        raise AttributeError(name)
    found = globals()[name] = extensions.union(_KINDS[name])
    return found
