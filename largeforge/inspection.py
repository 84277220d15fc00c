"""Look at many YAML files of recipes and choices, and find all that is wrong with them, running nothing.

A recipe is composed, validated and planned. A choice is composed into an otherwise empty recipe, so
that its form is checked where it will stand; what only a recipe can give may be missing in it.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.errors import LargeForgeError, Problem, RecipeError, listed
from largeforge.recipe import folders, sources
from largeforge.recipe.places import COMMAND_LINE, short
from largeforge.recipe.vetting import vet

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from largeforge.recipe.compose import Composition

_GROUP_OF = {folder: group for group, folder in folders.GROUP_FOLDERS.items()}
_FOLDERS = ("conf", *_GROUP_OF)
_PLACEHOLDER = "path:needed"
"""Stands for a value that the command line must give, so that the rest can be checked."""


@dataclass(frozen=True)
class Inspected:
    """What was found about one file."""

    path: Path
    group: str
    problems: tuple[Problem, ...] = ()
    needs: tuple[str, ...] = ()
    """Keys that the file leaves to the command line."""
    given: tuple[str, ...] = ()
    """Keys that it leaves to the command line and that were given."""


def files_below(paths: Sequence[Path]) -> list[Path]:
    """Return the YAML files of recipes, choices and inventories at the paths, or of the working directory.

    Raises RecipeError for paths that are not there or hold nothing.
    """
    found: dict[Path, None] = {}
    problems = []
    for path in paths or [Path()]:
        files = [path] if path.is_file() else _walk(path)
        if not files:
            rule = f"holds no YAML file of {listed(f'{name}/' for name in _FOLDERS)}."
            problems.append(Problem(str(path), rule if path.is_dir() else "no such file or folder."))
        found |= dict.fromkeys(files)
    if problems:
        raise RecipeError(problems)
    return list(found)


def inspect_files(files: Iterable[Path], values: Mapping[str, str]) -> list[Inspected]:
    """Return what there is to say about each file; `values` fill in what a recipe leaves open.

    `recipes/`, `conf/` and `hosts/` are looked up beside each other, wherever the working directory is.
    """
    return [_inspect(file, values) for file in files]


def _walk(folder: Path) -> list[Path]:
    inside = any(part in _FOLDERS for part in folder.resolve().parts) and _place(folder / "any.yaml") is not None
    starts = [folder] if inside else [folder / name for name in _FOLDERS]
    files = [path for start in starts for path in sorted(start.rglob("*.y*ml")) if path.is_file()]
    return [path for path in files if _is_choice(path)]


def _is_choice(path: Path) -> bool:
    place = _place(path)
    if place is None:
        return False
    root, parts = place
    return "data" not in parts and (root != folders.shipped_root() or parts != ("conf", "config.yaml"))


def _place(path: Path) -> tuple[Path, tuple[str, ...]] | None:
    """Return the root that a file belongs to, and the file's path below it."""
    full = path.resolve()
    here = Path.cwd()
    if full.is_relative_to(here) and full.relative_to(here).parts[0] in _FOLDERS:
        return here, full.relative_to(here).parts
    for index in range(len(full.parts) - 2, 0, -1):
        if full.parts[index] in _FOLDERS:
            return Path(*full.parts[:index]), full.parts[index:]
    return None


def _inspect(file: Path, values: Mapping[str, str]) -> Inspected:
    place = _place(file)
    if place is None:
        rule = f"stands in none of {listed(f'{name}/' for name in _FOLDERS)}, so that no recipe can use it."
        return Inspected(file, "", (Problem("file", rule, str(file)),))
    root, parts = place
    folder, *inside = parts
    group = _GROUP_OF.get(folder) or (inside[0] if len(inside) > 1 else "")
    name = Path(*(inside if folder in _GROUP_OF else inside[1:])).with_suffix("").as_posix()
    before = Path.cwd()
    with contextlib.chdir(root):
        found = _inspect_inside(Path(*parts), group, name, values)
    if root == before:
        return replace(found, path=file)
    problems = tuple(replace(p, where=_seen_from(before, root, p.where)) for p in found.problems)
    return replace(found, path=file, problems=problems)


def _seen_from(here: Path, root: Path, where: str) -> str:
    """Return a place below `root` as one would type it in the folder `here`."""
    if not where or where == COMMAND_LINE or Path(where).is_absolute():
        return where
    seen = os.path.relpath(root / where, here)
    return str(root / where) if seen.startswith("..") else seen


def _inspect_inside(file: Path, group: str, name: str, values: Mapping[str, str]) -> Inspected:
    if file.suffix != ".yaml":
        return Inspected(file, group, (Problem("file", "is never read: its name must end in .yaml.", short(file)),))
    if not group or group == "hydra":
        rule = "stands in no group: a choice is conf/GROUP/NAME.yaml." if not group else "cannot configure Hydra."
        return Inspected(file, group, (Problem("file", rule, short(file)),))
    vetted = sources.check_file(file) if group == "recipe" else vet(file.absolute()).problems
    if vetted:
        return Inspected(file, group, _placed(vetted, file))
    found = _recipe(file, name, values) if group == "recipe" else _choice(file, group, name)
    return replace(found, problems=_placed(found.problems, file))


def _placed(problems: Iterable[Problem], file: Path) -> tuple[Problem, ...]:
    """Return the problems with the file as place of those that nobody wrote down anywhere."""
    found = (p if p.where and p.where != COMMAND_LINE else replace(p, where=short(file)) for p in problems)
    return tuple(dict.fromkeys(found))


def _recipe(file: Path, name: str, values: Mapping[str, str]) -> Inspected:
    from largeforge.planning import make_plan
    from largeforge.recipe.compose import compose
    from largeforge.recipe.validate import validate

    words = [f"+recipe={name}"]
    try:
        composition = compose(words, partial=True)
        filled, needs = _filled(composition)
        given = tuple(key for key in needs if key in values)
        if given:
            composition = compose([*words, *(f"{key}={values[key]}" for key in given)], partial=True)
            filled, needs = _filled(composition)
        try:
            recipe = validate(replace(composition, values=filled))
        except RecipeError as error:
            problems = tuple(problem for problem in error.problems if problem.key not in needs)
            return Inspected(file, "recipe", problems, needs, given)
        if not needs:
            make_plan(recipe, recipe_folder=composition.recipe_folder)
    except RecipeError as error:
        return Inspected(file, "recipe", tuple(error.problems))
    except LargeForgeError as error:
        return Inspected(file, "recipe", (Problem("plan", str(error)),))
    return Inspected(file, "recipe", (), needs, given)


def _filled(composition: Composition) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the values with placeholders for those that are missing, and the keys of these.

    A missing section, number or name of the recipe is not filled in: that is a mistake, not a question.
    """
    from largeforge.recipe.compose import missing
    from largeforge.recipe.validate import absent, refused

    values, needs = composition.values, missing(composition.values)
    for key in needs:
        values = _with(values, key.split("."))
    for path in absent(values):
        tried = _with(values, path)
        if path != ["name"] and all(isinstance(part, str) for part in path) and path not in refused(tried):
            values = tried
            needs.append(".".join(map(str, path)))
    return values, tuple(dict.fromkeys(needs))


def _with(node: Any, path: Sequence[str | int]) -> Any:
    """Return a copy of the node with the placeholder at a path."""
    if not path:
        return _PLACEHOLDER
    if isinstance(node, list):
        return [_with(item, path[1:]) if str(index) == str(path[0]) else item for index, item in enumerate(node)]
    return {**node, path[0]: _with(node.get(path[0], {}), path[1:])}


def _choice(file: Path, group: str, name: str) -> Inspected:
    from pydantic import ValidationError

    from largeforge.recipe.compose import compose, missing
    from largeforge.recipe.schema import Recipe
    from largeforge.recipe.validate import explain

    words = [f"{group}={name}" if group in _default_groups() else f"+{group}={name}"]
    if group == "reward":  # stands below a method
        words = ["+method=grpo", f"+reward@method.rewards={name}"]
    try:
        composition = compose(["name=check", *words], partial=True)
    except RecipeError as error:
        return Inspected(file, group, tuple(error.problems))
    values, places = composition.values, composition.places
    needs = tuple(missing(values))
    try:
        Recipe.model_validate(values)
    except ValidationError as error:
        details = [detail for detail in error.errors(include_url=False) if detail["type"] != "missing"]
        problems = [explain(detail, values, places) for detail in details]
        return Inspected(file, group, tuple(problem for problem in problems if problem.key not in needs), needs)
    return Inspected(file, group, (), needs)


@cache
def _default_groups() -> frozenset[str]:
    """Return the groups that every recipe has a choice of, from `conf/config.yaml`."""
    return frozenset(choice.group for choice in vet(folders.shipped_root() / "conf" / "config.yaml").choices)
