"""Where YAML comes from: `conf/`, `recipes/` and `hosts/` of LargeForge and of the working directory.

`+recipe=NAME` finds `recipes/NAME.yaml` although the folder is not called `recipe`: a config
source with its own scheme maps one group onto one folder (`hydra_sources.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from largeforge.errors import Problem, RecipeError, listed, nearest
from largeforge.recipe.folders import GROUP_FOLDERS, shipped_root
from largeforge.recipe.packs import installed, loading
from largeforge.recipe.places import short
from largeforge.recipe.vetting import Choice, vet

if TYPE_CHECKING:
    from collections.abc import Iterable


def roots() -> list[Path]:
    """Return the folders to search, the working directory's own before LargeForge's."""
    found = [shipped_root()]
    here = Path.cwd()
    if here != found[0] and any((here / name).is_dir() for name in ("conf", *GROUP_FOLDERS.values())):
        found.insert(0, here)
    return found


def groups() -> list[str]:
    """Return the names of all groups that something can be chosen from."""
    found = set(GROUP_FOLDERS)
    for root in roots():
        conf = root / "conf"
        found.update(folder.relative_to(conf).as_posix() for folder in conf.rglob("*") if folder.is_dir())
    for pack in installed.packs().values():
        found.update(pack.groups)
    return sorted(group for group in found if group.partition("/")[0] != "hydra")


def choices(group: str) -> dict[str, Path]:
    """Return the choices of a group by name, those of packs with the pack's name before theirs.

    Raises RecipeError when a folder of one's own has the name of a pack: neither hides the other.
    """
    files = own_choices(group)
    for pack in installed.packs().values():
        same = next((path for name, path in files.items() if name.startswith(f"{pack.alias}/")), None)
        if same is not None:
            rule = "is the name of a pack and of this folder: name one of them otherwise."
            raise RecipeError([Problem(f"{group} {pack.alias}", rule, short(same.parent))])
    for pack in installed.packs().values():
        files.update({f"{pack.alias}/{name}": path for name, path in pack.groups.get(group, {}).items()})
    return dict(sorted(files.items()))


def own_choices(group: str) -> dict[str, Path]:
    """Return the choices of a group that are of no pack; one in the working directory hides a shipped one."""
    files: dict[str, Path] = {}
    for root in reversed(roots()):
        folder = root / GROUP_FOLDERS[group] if group in GROUP_FOLDERS else root / "conf" / group
        for path in sorted(folder.rglob("*.yaml")):
            name = path.relative_to(folder)
            if "data" not in name.parts and path.is_file():
                files[name.with_suffix("").as_posix()] = path
    return dict(sorted(files.items()))


def recipe_name(typed: str) -> str:
    """Return a recipe's name for what was typed: `recipes/my.yaml` means `my`."""
    return typed.removeprefix("./").removeprefix(f"{GROUP_FOLDERS['recipe']}/").removesuffix(".yaml")


def recipe_folder(recipe: Path | None) -> Path:
    """Return the folder that the `recipe:` paths of a recipe file are relative to."""
    if recipe and (pack := installed.of_path(recipe)):
        return pack.folder / GROUP_FOLDERS["recipe"]
    folders = [root / GROUP_FOLDERS["recipe"] for root in roots()]
    return next((folder for folder in folders if recipe and recipe.is_relative_to(folder)), folders[-1])


def check_choices(wanted: Iterable[Choice]) -> list[Problem]:
    """Return a problem for each choice that does not exist."""
    known = groups()
    found: dict[str, dict[str, Path]] = {}
    problems = []
    for choice in wanted:
        group = choice.group.lstrip("/")
        if group not in known:
            rule = f"no such group; there is: {listed(known)}."
            problems.append(Problem(group, rule, choice.where, nearest=nearest(group, known)))
            continue
        names = found[group] = found.get(group) or choices(group)
        pack = installed.of_choice(choice.name)
        if pack is not None and pack.problem:
            problems.append(Problem(group, f"{pack.problem}.", choice.where, repr(choice.name)))
        elif pack is not None and choice.name in names:
            problems += loading.check(pack, names[choice.name], own_choices)
        elif choice.name not in names:
            rule = f"no such {group}; there is: {listed(names, 20)}."
            problems.append(Problem(group, rule, choice.where, repr(choice.name), nearest(choice.name, names)))
    return problems


def check_file(path: Path) -> list[Problem]:
    """Return what is wrong with a recipe's file before it is composed: its form, and choices that do not exist."""
    if pack := installed.of_path(path):
        vetted, problems = pack.vet(path), loading.check(pack, path, own_choices)
    else:
        vetted = vet(path)
        problems = list(vetted.problems)
    if vetted.package not in (None, "_global_"):
        problems.append(Problem("@package", "of a recipe is _global_.", short(path), repr(vetted.package)))
    if pack:
        return problems
    for key, _ in vetted.root.value if isinstance(vetted.root, yaml.MappingNode) else ():
        if key.value == "packs":
            rule = "stands in largeforge.yaml, beside the folder of recipes: python -m largeforge packs add."
            problems.append(Problem("packs", rule, f"{short(path)}:{key.start_mark.line + 1}"))
    for choice in vetted.choices:
        if not choice.group.startswith("/"):
            problems.append(Problem("defaults", f"a group begins with a slash: `/{choice.group}`.", choice.where))
        elif choice.group == "/recipe":
            problems.append(Problem("recipe", f"to build on a recipe, write `- {choice.name}`.", choice.where))
    wanted = [choice for choice in vetted.choices if choice.group.startswith("/")]
    bases = [Choice("recipe", path.name, path.where) for path in vetted.paths if installed.of_choice(path.name)]
    return [*problems, *check_choices([*wanted, *bases])]


def description(path: Path) -> str:
    """Return the first comment line of a recipe that is not an instruction to Hydra or to an editor."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        text = line.lstrip("#\ufeff ").strip()
        if (
            line.lstrip("\ufeff").startswith("#")
            and text
            and not text.startswith(("@package", "yaml-language-server:"))
        ):
            return text
    return ""
