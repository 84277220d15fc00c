"""Find extension modules (methods, adapters, routers, ...) by name, only under their own package.

Adding one is one module with a `Config` in the package and one YAML under `conf/`; nothing
here lists them. A name that is not a plain identifier never reaches the import system.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Collection
from functools import cache, reduce
from operator import or_
from types import ModuleType
from typing import Annotated, Any

from pydantic import Field

from largeforge.errors import Problem, RecipeError, nearest

KINDS = {
    "method": "largeforge.methods",
    "adapter": "largeforge.adapters",
    "launcher": "largeforge.launchers",
    "evaluation": "largeforge.evaluators",
    "export": "largeforge.exporters",
    "quantization": "largeforge.quantizers",
    "reward": "largeforge.rewards",
    "router": "largeforge.gateway.routers",
    "tracking": "largeforge.trackers",
}
"""Config group to the package that holds its extensions."""

KEYED = ("evaluation", "tracking")
"""Kinds of which a recipe may choose several, each under its name."""

_NAME = re.compile(r"[a-z0-9_]+")


@cache
def names(kind: str) -> tuple[str, ...]:
    """Return the names of all extensions of one kind, sorted."""
    package = importlib.import_module(KINDS[kind])
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def load(kind: str, name: str) -> ModuleType:
    """Import the extension `name` of `kind`.

    Raises RecipeError when the name is malformed or no such module exists.
    """
    if not _NAME.fullmatch(name) or name not in names(kind):
        rule = f"no such {kind}; there is: {', '.join(names(kind))}."
        raise RecipeError([Problem(f"{kind}.name", rule, given=repr(name), nearest=nearest(name, names(kind)))])
    return importlib.import_module(f"{KINDS[kind]}.{name}")


def union(kind: str, *, without: Collection[str] = ()) -> Any:
    """Return the Pydantic type that accepts the `Config` of any extension of `kind`, but for those in `without`."""
    configs = [load(kind, name).Config for name in names(kind) if name not in without]
    if len(configs) == 1:
        return configs[0]
    return Annotated[reduce(or_, configs), Field(discriminator="name")]
