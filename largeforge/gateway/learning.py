"""Train those routers of a recipe that learn, and find again what they learnt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.recipe import extensions
from largeforge.recipe.routing_files import MEMBERS, routers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from largeforge.gateway.examples import Example
    from largeforge.recipe.base import Extension


def learners(router: Extension) -> list[tuple[str, Extension]]:
    """Return the routers that are to be trained, with their keys in the recipe."""
    return [(key, one) for key, one in routers(router) if _learns(one) and not getattr(one, "path", "")]


def train(
    router: Extension,
    examples: Sequence[Example],
    folder: Path,
    *,
    seed: int,
    progress: Callable[[int, int, float], None],
) -> None:
    """Train all routers that learn; each writes to a folder of its own below `folder`."""
    for key, one in learners(router):
        own = folder / key
        own.mkdir(parents=True, exist_ok=True)
        extensions.load("router", one.name).train(one, examples, own, seed=seed, progress=progress)


def located(router: Extension, folder: Path, key: str = "router") -> Extension:
    """Return a router with the files that it and its members learnt below `folder`."""
    change: dict[str, Any] = {}
    if _learns(router) and not getattr(router, "path", ""):
        change["path"] = str((folder / key / extensions.load("router", router.name).FILE).absolute())
    if members := getattr(router, MEMBERS, {}):
        change[MEMBERS] = {name: located(one, folder, f"{key}.{MEMBERS}.{name}") for name, one in members.items()}
    return router.model_copy(update=change)


def as_before(router: Extension, before: Extension) -> Extension:
    """Return a router with what the one before it learnt, where both are of one kind and it names no files itself."""
    change: dict[str, Any] = {}
    if router.name == before.name and _learns(router) and not getattr(router, "path", ""):
        change["path"] = getattr(before, "path", "")
    older = getattr(before, MEMBERS, {})
    if members := getattr(router, MEMBERS, {}):
        change[MEMBERS] = {name: as_before(one, older[name]) if name in older else one for name, one in members.items()}
    return router.model_copy(update=change)


def _learns(router: Extension) -> bool:
    return getattr(extensions.load("router", router.name), "train", None) is not None
