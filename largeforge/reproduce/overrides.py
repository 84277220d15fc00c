"""Words of a command line that change a locked recipe: values only, since its choices are made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from largeforge.errors import Problem, RecipeError, nearest
from largeforge.recipe.places import COMMAND_LINE

if TYPE_CHECKING:
    from collections.abc import Sequence

ALLOW = "reproduce.allow"
ALLOWED = ("datasets", "models")
"""What may differ from the lock when it is asked for."""


@dataclass(frozen=True)
class Words:
    """The words of a reproduction, sorted by what they are for."""

    values: dict[str, Any]
    """Dotted key to new value."""
    removed: tuple[str, ...]
    """Dotted keys to leave out."""
    allow: frozenset[str]
    """Which of `ALLOWED` may differ."""
    mode: str


def parse(words: Sequence[str]) -> Words:
    """Sort the words.

    Raises RecipeError for a word that is no `key=value`, or that makes a choice or a sweep.
    """
    values: dict[str, Any] = {}
    removed: list[str] = []
    for word in words:
        key, value, is_removal = _parsed(word)
        if is_removal:
            removed.append(key)
        else:
            values[key] = value
    allow = _allowed(values.pop(ALLOW, []))
    mode = values.pop("mode", "run")
    if mode not in ("run", "plan"):
        raise RecipeError([Problem("mode", "must be one of run, plan.", COMMAND_LINE, repr(mode))])
    unknown = next((key for key in values if key.startswith("reproduce.")), "")
    if unknown:
        raise RecipeError([Problem(unknown, f"unknown key; there is: {ALLOW}.", COMMAND_LINE, nearest=ALLOW)])
    return Words(values, tuple(removed), allow, str(mode))


def apply(recipe: dict[str, Any], words: Words) -> None:
    """Change a recipe in place.

    Raises RecipeError where a key leads through something that is no section, or names a choice.
    """
    problems = []
    for key, value in words.values.items():
        try:
            *above, last = key.split(".")
            node = _section(recipe, above)
            if isinstance(node.get(last), dict) and isinstance(value, str):
                rule = f"a locked recipe has its choices made: give values, for example {key}.{_example(node[last])}=…."
                problems.append(Problem(key, rule, COMMAND_LINE, repr(value)))
            node[last] = value
        except KeyError as error:
            problems.append(Problem(key, f"{error.args[0]} is no section of the locked recipe.", COMMAND_LINE))
    for key in words.removed:
        *above, last = key.split(".")
        try:
            del _section(recipe, above)[last]
        except KeyError:
            problems.append(Problem(key, "is not there to be removed.", COMMAND_LINE))
    if problems:
        raise RecipeError(problems)


def _parsed(word: str) -> tuple[str, Any, bool]:
    """Return key, value and whether it is a removal, as Hydra reads them."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    from largeforge.recipe.compose import rewrite

    try:
        found = OverridesParser.create().parse_override(rewrite([word])[0])
    except HydraException:
        raise RecipeError([Problem(word, "expected key=value or ~key.", COMMAND_LINE)]) from None
    if found.is_sweep_override() or found.package is not None:
        raise RecipeError([Problem(word, "expected one plain value.", COMMAND_LINE)])
    return re.sub("/", ".", found.key_or_group), found.value(), found.is_delete()


def _allowed(value: Any) -> frozenset[str]:
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list) or any(not isinstance(item, str) for item in given):
        raise RecipeError([Problem(ALLOW, f"must be a list of {', '.join(ALLOWED)}.", COMMAND_LINE, repr(value))])
    for item in given:
        if item not in ALLOWED:
            rule = f"must be one of {', '.join(ALLOWED)}."
            raise RecipeError([Problem(ALLOW, rule, COMMAND_LINE, repr(item), nearest(item, ALLOWED))])
    return frozenset(given)


def _section(recipe: dict[str, Any], path: list[str]) -> dict[str, Any]:
    node: Any = recipe
    for depth, part in enumerate(path, 1):
        node = node.setdefault(part, {}) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            raise KeyError(".".join(path[:depth]))
    found: dict[str, Any] = node
    return found


def _example(section: dict[str, Any]) -> str:
    return next((key for key in section if key != "name"), "name")
