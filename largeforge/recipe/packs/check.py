"""Look at a pack as its users' LargeForge will: every file, every recipe, before it is published or added."""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.errors import PackError, Problem, RecipeError
from largeforge.recipe.packs import installed, loading, manifest, policy, tree
from largeforge.recipe.places import short

if TYPE_CHECKING:
    from pathlib import Path

_LEFT_OPEN = ("is required", "nothing to do")
"""How problems begin that the user of a recipe solves, or another recipe that builds on it."""

UNNAMED = "this"
"""Name of a pack that nobody has given one yet."""


def problems(folder: Path, *, alias: str = "", is_working_copy: bool = True) -> list[Problem]:
    """Return what is wrong with the pack in a folder; values that a recipe leaves to its user are no problem.

    In a working copy, what is no part of the pack may lie beside it.
    """
    try:
        files = tree.scan(folder, strict=not is_working_copy)
    except PackError as error:
        return [Problem("pack", f"{error}.", short(folder))]
    found = list(manifest.read(folder)[1])
    pack = installed.Pack(alias or UNNAMED, folder)
    with installed.using(pack):
        found += _files(pack, files)
        for name in pack.groups.get("recipe", {}):
            found += _recipe(f"{pack.alias}/{name}")
    return list(dict.fromkeys(found))[: policy.MAX_PROBLEMS]


def _files(pack: installed.Pack, files: dict[str, Path]) -> list[Problem]:
    from largeforge.recipe import sources

    found = []
    for path, file in files.items():
        parts = path.split("/")
        if parts[0] == "conf" and (len(parts) < 3 or not path.endswith(".yaml")):
            found.append(Problem("conf", "holds only conf/<group>/<choice>.yaml.", short(file)))
        elif parts[0] == "conf" and not policy.may_add_to(parts[1]):
            rule = f"a pack cannot add to this group; it may add to {', '.join(policy.GROUPS[:-1])} or one of its own."
            found.append(Problem(parts[1], rule, short(file)))
        elif pack.group_of(file):
            found += loading.check(pack, file, sources.own_choices)
    return found


def _recipe(name: str) -> list[Problem]:
    from largeforge.recipe.compose import compose
    from largeforge.recipe.validate import validate

    try:
        composition = compose([f"+recipe={name}"], partial=True)
        validate(composition)
    except RecipeError as error:
        return [problem for problem in error.problems if not problem.rule.startswith(_LEFT_OPEN)]
    return []
