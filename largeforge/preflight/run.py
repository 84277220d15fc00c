"""Run all checks at once, none of them for long."""

from __future__ import annotations

import importlib
import pkgutil
import threading
import time
from dataclasses import replace
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING

from largeforge.errors import PreflightError
from largeforge.preflight import checks
from largeforge.preflight.context import Context
from largeforge.preflight.finding import Finding, warning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from largeforge.plan import Plan

_GRACE_S = 1.0
"""How much longer than a server a check may take."""


@cache
def names() -> tuple[str, ...]:
    """Return the names of all checks, sorted."""
    found = (module.name for module in pkgutil.iter_modules(checks.__path__))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def examine(context: Context, only: Sequence[str] = ()) -> list[Finding]:
    """Return what all checks found, in the order of their names; they wait side by side."""
    wanted = list(only) or list(names())
    found: dict[str, list[Finding]] = {}
    _ = context.web  # made before threads share it

    def look(name: str) -> None:
        found[name] = _findings(load(name), context, name)

    threads = [threading.Thread(target=look, args=(name,), daemon=True) for name in wanted]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + context.timeout_s + _GRACE_S
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [finding for name in wanted for finding in found.get(name) or [_late(name, context)]]


def notes(plan: Plan) -> list[Finding]:
    """Return the warnings and errors of the checks that need neither waiting nor other programs, for `mode=plan`."""
    context = Context(plan)
    modules = {name: load(name) for name in names()}
    quick = [name for name, module in modules.items() if getattr(module, "QUICK", False)]
    return [found for name in quick for found in _findings(modules[name], context, name) if is_bad(found)]


def require(plan: Plan) -> list[Finding]:
    """Return what a run should be warned of.

    Raises PreflightError with every error, each one line with its cure.
    """
    found = [finding for finding in examine(Context(plan)) if is_bad(finding)]
    errors = [finding for finding in found if finding.level == "error"]
    warnings = [finding for finding in found if finding.level == "warning"]
    if errors:
        raise PreflightError([str(finding) for finding in errors], [str(finding) for finding in warnings])
    return warnings


def is_bad(finding: Finding) -> bool:
    """Whether a finding is worth a word when all else is well."""
    return finding.level in ("warning", "error")


def load(name: str) -> ModuleType:
    """Import one check."""
    return importlib.import_module(f"{checks.__name__}.{name}")


def _findings(module: ModuleType, context: Context, name: str) -> list[Finding]:
    try:
        return [replace(finding, check=name) for finding in module.check(context)]
    except Exception as error:  # a check that fails on a strange machine must not stop the run
        text = f"this check itself failed ({type(error).__name__}: {str(error)[:200]})"
        return [replace(warning(text, "report it as a bug, with this line"), check=name)]


def _late(name: str, context: Context) -> Finding:
    text = f"took longer than {context.timeout_s + _GRACE_S:g} s (a file system or a driver that hangs?)"
    return replace(warning(text, f"python -m largeforge doctor --only {name}"), check=name)
