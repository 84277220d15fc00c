"""The one operation that pyinfra is given: bring a step of `steps.py` about where it differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pyinfra.api import StringCommand, operation

if TYPE_CHECKING:
    from largeforge.deploy.steps import Step


@operation()  # type: ignore[untyped-decorator]
def bring(step: Step, found: Mapping[str, Any]) -> Iterator[StringCommand]:
    """Yield the command of a step that differs from what was found, and nothing for any other."""
    if step.differs(found):
        given = {"_stdin": step.input()} if step.input() else {}
        yield StringCommand(step.command(), **given)
