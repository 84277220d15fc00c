"""The files that routing names: requests to learn from and to be judged by, and what a router learnt before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.cache import cached_sha256
from largeforge.errors import Problem
from largeforge.recipe.templates import path_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from largeforge.recipe.base import Extension
    from largeforge.recipe.schema import Recipe
    from largeforge.recipe.sections.routing import Files, Routing

KEYS = ("path", "heldout_path")
MEMBERS = "routers"
"""Key under which a router that consists of others has them."""


def paths(files: Files) -> list[tuple[str, str]]:
    """Return each file with the expert that all its rows belong to, empty where each row says its own."""
    by_expert = files if isinstance(files, dict) else {"": files}
    return [
        (name, path)
        for name, given in by_expert.items()
        for path in ([given] if isinstance(given, str) else given)
        if path
    ]


def named(routing: Routing) -> list[str]:
    """Return all files of requests, each once."""
    found = [path for key in KEYS for _, path in paths(getattr(routing, key))]
    return list(dict.fromkeys(found))


def routers(router: Extension | None, key: str = "router") -> Iterator[tuple[str, Extension]]:
    """Yield a router and those that it consists of, with their keys in the recipe."""
    if router is not None:
        yield key, router
        for name, member in getattr(router, MEMBERS, {}).items():
            yield from routers(member, f"{key}.{MEMBERS}.{name}")


def learnt(router: Extension | None) -> list[str]:
    """Return the files with what routers learnt before."""
    return [path for _, one in routers(router) if (path := getattr(one, "path", ""))]


def identities(recipe: Recipe) -> dict[str, str]:
    """Return the sha256 of each file that routing names; those that are missing are left out."""
    found = [Path(path) for path in (*named(recipe.routing), *learnt(recipe.router))]
    return {str(path): cached_sha256(path) for path in found if path.is_file()}


def absolute(values: dict[str, Any], recipe_folder: str) -> tuple[dict[str, Any], list[Problem]]:
    """Return composed values with the paths of routing made absolute, and what is wrong with them."""
    problems: list[Problem] = []

    def fix(given: Any, key: str) -> Any:
        if isinstance(given, dict):
            return {name: fix(value, f"{key}.{name}") for name, value in given.items()}
        if isinstance(given, list):
            return [fix(value, f"{key}.{place}") for place, value in enumerate(given)]
        if not isinstance(given, str) or not given:
            return given
        try:
            return str(path_of(given, recipe_folder))
        except ValueError as error:
            problems.append(Problem(key, f"{error}.", given=repr(given[:80])))
            return given

    found = dict(values)
    if isinstance(section := found.get("routing"), dict):
        found["routing"] = {
            key: fix(value, f"routing.{key}") if key in KEYS else value for key, value in section.items()
        }
    if isinstance(section := found.get("router"), dict):
        found["router"] = _router(section, "router", fix)
    return found, problems


def _router(section: dict[str, Any], key: str, fix: Callable[[Any, str], Any]) -> dict[str, Any]:
    found = dict(section)
    if "path" in found:
        found["path"] = fix(found["path"], f"{key}.path")
    if isinstance(members := found.get(MEMBERS), dict):
        found[MEMBERS] = {
            name: _router(member, f"{key}.{MEMBERS}.{name}", fix) if isinstance(member, dict) else member
            for name, member in members.items()
        }
    return found
