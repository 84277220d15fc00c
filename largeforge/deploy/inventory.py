"""Read an inventory by its name, without a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from largeforge.errors import Problem, RecipeError, listed, nearest
from largeforge.recipe import sources
from largeforge.recipe.places import short
from largeforge.recipe.sections.hosts import Host, Hosts

if TYPE_CHECKING:
    from pathlib import Path


def read(name: str) -> Hosts:
    """Return the inventory `hosts/NAME.yaml` of the working directory, or one that comes with LargeForge.

    Raises RecipeError with everything that is wrong with it.
    """
    found = sources.own_choices("hosts")
    if name not in found:
        rule = f"no such inventory; there is: {listed(found)}."
        raise RecipeError([Problem("hosts", rule, given=repr(name), nearest=nearest(name, found))])
    return _read(found[name])


def _read(path: Path) -> Hosts:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise RecipeError([Problem("hosts", f"cannot be read: {error}", short(path))]) from None
    try:
        return Hosts.model_validate(content)
    except ValidationError as error:
        raise RecipeError([_problem(details, path) for details in error.errors(include_url=False)]) from None


def _problem(details: Any, path: Path) -> Problem:
    place = [str(part) for part in details["loc"]]
    is_unknown = details["type"] == "extra_forbidden"
    known = Host.model_fields if place[:1] == ["hosts"] else Hosts.model_fields
    given = "" if is_unknown or isinstance(details["input"], dict) else repr(details["input"])
    rule = "no such key." if is_unknown else f"{details['msg']}."
    return Problem(".".join(place) or "file", rule, short(path), given, nearest(place[-1], known) if is_unknown else "")
