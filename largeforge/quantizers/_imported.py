"""Are the packages that this process imported those that its environment was built with?

An environment is an interpreter with folders laid over one another; a stray PYTHONPATH or an update beneath would give
a tool something else than what was checked when it was built. What was really imported settles it.
"""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Mapping


def check(expected: Mapping[str, str], *, own: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the versions of the expected packages that are loaded.

    `own` are the packages that must come from `folder`. Raises BuildError for any that is another one.
    """
    found: dict[str, str] = {}
    problems: list[str] = []
    for module, names in metadata.packages_distributions().items():
        loaded = sys.modules.get(module)
        name = next((name for name in map(_normal, names) if name in expected), "")
        if not name or loaded is None:
            continue
        says, where = getattr(loaded, "__version__", None), getattr(loaded, "__file__", None)
        found[name] = str(says) if isinstance(says, str) else expected[name]
        if _release(found[name]) != _release(expected[name]):
            problems.append(f"{name} {found[name]} was imported, {expected[name]} was expected ({where})")
        elif name in own and where and not Path(where).is_relative_to(folder):
            problems.append(f"{name} was imported from {where}, not from {folder}")
    if problems:
        raise BuildError("another environment than was built: " + "; ".join(problems))
    return found


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def _release(version: str) -> str:
    return version.partition("+")[0]
