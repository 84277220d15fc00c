"""The rows of a load test are there, and each asks something."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from largeforge.errors import DataError
from largeforge.preflight.finding import Finding, error, ok, skipped

if TYPE_CHECKING:
    from largeforge.preflight.context import Context

QUICK = True


def check(context: Context) -> Iterator[Finding]:
    """Read the file that the load test names."""
    path = context.recipe.load_test.path if context.recipe and context.recipe.load_test else ""
    if not path:
        yield skipped("no rows are put to a load test")
        return
    from largeforge.loadtest import prompts

    try:
        yield ok(f"{path}: {len(prompts.requests(path))} rows to ask")
    except DataError as fault:
        yield error(" ".join(str(fault).split()), "load_test.path=FILE")
