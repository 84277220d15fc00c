"""Sections whose fields depend on their `name`: the `Config` of an extension module."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
else:
    Method = extensions.union("method")
    Adapter = extensions.union("adapter")
    Launcher = extensions.union("launcher")
    Evaluator = extensions.union("evaluation")
    Exporter = extensions.union("export")
    Quantization = extensions.union("quantization")
    Router = extensions.union("router")
    Tracker = extensions.union("tracking")
