"""The file of rows that a load test asks: its path made absolute, and its identity for the lock."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.cache import cached_sha256
from largeforge.errors import Problem
from largeforge.recipe.templates import path_of

if TYPE_CHECKING:
    from largeforge.recipe.schema import Recipe


def absolute(values: dict[str, Any], recipe_folder: str) -> tuple[dict[str, Any], list[Problem]]:
    """Return composed values with the load test's path made absolute, and what is wrong with it."""
    section = values.get("load_test")
    given = section.get("path") if isinstance(section, dict) else None
    if not isinstance(section, dict) or not isinstance(given, str) or not given:
        return values, []
    try:
        return {**values, "load_test": {**section, "path": str(path_of(given, recipe_folder))}}, []
    except ValueError as error:
        return values, [Problem("load_test.path", f"{error}.", given=repr(given[:80]))]


def identities(recipe: Recipe) -> dict[str, str]:
    """Return the sha256 of the file; nothing where there is none."""
    path = recipe.load_test.path if recipe.load_test else ""
    return {path: cached_sha256(Path(path))} if path and Path(path).is_file() else {}
