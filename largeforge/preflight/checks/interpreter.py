"""The interpreter that stages run in is there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

from largeforge.preflight.finding import Finding, error, ok, skipped

if TYPE_CHECKING:
    from largeforge.preflight.context import Context


def check(context: Context) -> Iterator[Finding]:
    """Look for `environment.python`."""
    python = context.recipe.environment.python if context.recipe else ""
    if not python:
        yield skipped("stages run in the interpreter that runs this")
    elif shutil.which(python):
        yield ok(python)
    else:
        yield error(f"environment.python = {python!r} is not a program", "environment.python=/path/to/venv/bin/python")
