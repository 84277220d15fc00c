"""`pack.yaml`: what a pack calls itself, and which versions of LargeForge it is written for. It may be missing.

name: acme-recipes
description: Support bots for small shops
largeforge: ">=0.1,<1"
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

import largeforge
from largeforge.errors import Problem, listed, nearest
from largeforge.recipe.packs.tree import MANIFEST
from largeforge.recipe.places import short
from largeforge.recipe.vetting import vet

if TYPE_CHECKING:
    from pathlib import Path

_KEYS = ("name", "description", "largeforge", "license")
_BOUND = re.compile(r"(>=|<=|==|!=|>|<)\s*(\d+(?:\.\d+){0,3})")


@dataclass(frozen=True)
class Manifest:
    """What a pack says of itself."""

    name: str = ""
    description: str = ""
    largeforge: str = ""
    license: str = ""


def read(folder: Path) -> tuple[Manifest, list[Problem]]:
    """Return a pack's manifest and what is wrong with it; a version range without this LargeForge is, too."""
    path = folder / MANIFEST
    if not path.exists():
        return Manifest(), []
    vetted = vet(path)
    if vetted.problems:
        return Manifest(), vetted.problems
    problems: list[Problem] = []
    given: dict[str, str] = {}
    root = yaml.compose(vetted.text, Loader=yaml.SafeLoader)
    for key, value in root.value if root else ():
        where = f"{short(path)}:{key.start_mark.line + 1}"
        if key.value not in _KEYS:
            rule = f"unknown key; there is: {listed(_KEYS)}."
            problems.append(Problem(key.value, rule, where, nearest=nearest(key.value[:80], _KEYS)))
        elif not isinstance(value, yaml.ScalarNode) or len(value.value) > 500:
            problems.append(Problem(key.value, "must be a short text.", where))
        else:
            given[key.value] = value.value
            if key.value == "largeforge" and (rule := _problem_of_range(value.value)):
                problems.append(Problem("largeforge", f"{rule}.", where, repr(value.value[:80])))
    return Manifest(**given), problems


def _problem_of_range(text: str) -> str:
    bounds = [_BOUND.fullmatch(part.strip()) for part in text.split(",")]
    if not all(bounds):
        return 'must be bounds with commas between them, such as ">=0.1,<1"'
    here = _numbers(largeforge.__version__)
    fits = all(_fits(here, bound[1], _numbers(bound[2])) for bound in bounds if bound)
    return "" if fits else f"the pack is not for this LargeForge, which is {largeforge.__version__}"


def _fits(here: tuple[int, ...], sign: str, bound: tuple[int, ...]) -> bool:
    if sign in ("==", "!="):
        return (here[: len(bound)] == bound) == (sign == "==")
    padded = (*bound, *([0] * (len(here) - len(bound))))
    return {">=": here >= padded, "<=": here <= padded, ">": here > padded, "<": here < padded}[sign]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:4])
