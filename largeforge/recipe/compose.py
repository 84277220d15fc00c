"""Compose a recipe with Hydra: overrides in, plain data out, with the place of every key.

A plain override such as `method.learning_rate=1e-4` is passed on as `++`, so that Hydra never
stops at the first typo; unknown keys are found by validation, all at once. A recipe is data:
what its files may hold is in `vetting.py`, what `${key}` may refer to in `references.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from largeforge.errors import Problem, RecipeError, listed, nearest
from largeforge.recipe import folders, sources
from largeforge.recipe.packs import installed, policy
from largeforge.recipe.places import COMMAND_LINE, Places, places_of
from largeforge.recipe.references import resolve
from largeforge.recipe.vetting import CHOICE, Choice, vet

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_OVERRIDE = re.compile(r"(?P<sign>\+{1,2}|~)?(?P<key>[A-Za-z_][\w./@:-]*)(?:=(?P<value>.*))?", re.DOTALL)
_CHOICES = re.compile(r"\w[\w./-]*")
_QUOTABLE = re.compile(r"""[^\[\]{}"'\\,$\n]+""")


@dataclass(frozen=True)
class Composition:
    """A composed recipe, not yet validated."""

    values: dict[str, Any]
    places: Places
    recipe_folder: str
    """Folder of the recipe file: what `recipe:` paths are relative to."""
    packs: dict[str, dict[str, str]] = field(default_factory=dict)
    """Git address, rev, commit and sha256 of each pack that something in the recipe comes from, by name."""


def compose(overrides: Sequence[str], *, partial: bool = False) -> Composition:
    """Compose `conf/config.yaml` with the overrides of a command line; `partial` leaves `???` where it stands.

    Raises RecipeError for anything that is not allowed, or that Hydra or OmegaConf rejects.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from largeforge.recipe import hydra_sources

    installed.forget()
    check_words(overrides)
    _require_recipe(overrides)
    hydra_sources.register()
    GlobalHydra.instance().clear()
    rewritten = rewrite(overrides)
    recipe = recipe_file(rewritten)
    with initialize_config_dir(str(folders.shipped_root() / "conf"), job_name="largeforge", version_base="1.3"):
        places = places_of(GlobalHydra.instance().config_loader(), rewritten, recipe)
        try:
            config = hydra_compose("config", list(rewritten))
        except Exception as error:
            raise explain(error, places) from error
        in_use = any(pack.is_in_use for pack in installed.packs().values())
        if in_use and (refused := policy.check(places.sources)):
            raise RecipeError(refused)
    values = plain(config, places, partial=partial)
    return Composition(values, places, str(sources.recipe_folder(recipe)), installed.used(values))


def plain(config: Any, places: Places, *, partial: bool = False) -> dict[str, Any]:
    """Return the composed config as plain data, with references resolved.

    Raises RecipeError for references that lead nowhere and, unless `partial`, for missing values.
    """
    from omegaconf import OmegaConf

    raw: Any = OmegaConf.to_container(config, resolve=False)
    values, wrong = resolve(raw)
    open_keys = [] if partial else missing(values)
    absent = [Problem(key, f"is required: give it with {key}=….") for key in open_keys]
    if wrong or absent:
        raise RecipeError([replace(problem, where=places.of_key(problem.key)) for problem in [*wrong, *absent]])
    return values


def missing(value: Any, prefix: str = "") -> list[str]:
    """Return the keys whose value is left to the command line with `???`."""
    if isinstance(value, dict):
        return [k for key, item in value.items() for k in missing(item, f"{prefix}.{key}" if prefix else str(key))]
    if isinstance(value, list):
        return [key for index, item in enumerate(value) for key in missing(item, f"{prefix}.{index}")]
    return [prefix] if value == "???" else []


def check_words(words: Sequence[str], *, sweep: bool = False) -> None:
    """Raise RecipeError for words that are no override, for choices that do not exist, and for an unsound recipe."""
    problems = [problem for word in words for problem in _word_problems(word, sweep)]
    if not problems and (recipe := recipe_file(rewrite(words))):
        problems = sources.check_file(recipe)
    if problems:
        raise RecipeError(problems)


def rewrite(overrides: Sequence[str]) -> list[str]:
    """Return the overrides as Hydra takes them.

    Plain values get `++`, which Hydra accepts for any key; a recipe is `+recipe=NAME` however it
    was typed; a value that only quotes make readable, such as a path with spaces, gets them.
    """
    return [_rewritten(word) for word in overrides]


def recipe_file(rewritten: Sequence[str]) -> Path | None:
    """Return the file of the chosen recipe, if there is exactly one such file."""
    names = [word.removeprefix("+recipe=") for word in rewritten if word.startswith("+recipe=")]
    return sources.choices("recipe").get(installed.external(names[0])) if len(names) == 1 else None


def explain(error: Exception, places: Places) -> RecipeError:
    """Return Hydra's complaint as a RecipeError."""
    from hydra.errors import MissingConfigException

    if isinstance(error, RecipeError):
        return error
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = installed.external(" ".join(lines)) or type(error).__name__
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        choice = installed.external(choice)
        if installed.of_choice(choice) and (problems := sources.check_choices([Choice(group, choice, places.default)])):
            return RecipeError(problems)
        options = [str(option) for option in error.options or ()]
        rule = f"no such {group or 'config'}; there is: {listed(options, 20)}."
        return RecipeError([Problem(group or "config", rule, places.default, repr(choice), nearest(choice, options))])
    unused = re.search(r"Could not override '([^'@]+)(?:@([^']+))?'", message)
    if unused and message.startswith("In '"):
        rule = "overrides a choice that was not made before: leave out the word override."
        return RecipeError([Problem(unused[1], rule, _chosen_at(places, unused[1]))])
    if unused:
        rule = f"this recipe has no choice for {unused[1]}; to add one: +{unused[1]}=…."
        return RecipeError([Problem(unused[1], rule, COMMAND_LINE)])
    absent = re.search(r"Could not delete[^']*'([^']+)'", message)
    if absent:
        return RecipeError([Problem(absent[1], "is not there to be removed.", COMMAND_LINE)])
    twice = re.search(r"Multiple values for ([\w/]+)", message)
    if twice and places.recipe and twice[1] not in folders.GROUP_FOLDERS:
        rule = f"is chosen already: write `- override /{twice[1]}: …` here, or {twice[1]}=… on the command line."
        return RecipeError([Problem(twice[1], rule, _chosen_at(places, twice[1]))])
    if "ConfigTypeError" in message:
        key, where = places.clash()
        rule = "is a list in one place and a section of keys in another."
        return RecipeError([Problem(key or "recipe", rule, where)])
    merging = re.match(r"Error merging override \+*([^=]+)=(.*)", message)
    if merging:
        rule = "is not of the kind that stands there: a section of keys, a list, or a single value."
        return RecipeError([Problem(merging[1], rule, COMMAND_LINE, merging[2][:100].rstrip("."))])
    return RecipeError([Problem("recipe", f"{message[:300].rstrip('.')}.", places.default)])


def _chosen_at(places: Places, group: str) -> str:
    choices = vet(places.recipe).choices if places.recipe else []
    return next((choice.where for choice in choices if choice.group.lstrip("/") == group), COMMAND_LINE)


def _require_recipe(words: Sequence[str]) -> None:
    """Raise RecipeError for a command line without a recipe; with `name=…` it may be one itself."""
    keys = [word.lstrip("+").partition("=")[0] for word in words]
    if "recipe" in keys or "name" in keys:
        return
    recipes = sources.choices("recipe")
    typed = [sources.recipe_name(part) for word in words for part in word.partition("=")[::2]]
    near = next((name for name in typed if name in recipes), "") or nearest(typed[0] if typed else "", recipes)
    rule = f"is required: choose one with +recipe=NAME; there is: {listed(recipes)}."
    raise RecipeError([Problem("recipe", rule, COMMAND_LINE, nearest=near and f"+recipe={near}")])


def _word_problems(word: str, sweep: bool) -> list[Problem]:
    match = _OVERRIDE.fullmatch(word)
    if match is None or (match["value"] is None and match["sign"] != "~"):
        recipes, commands = sources.choices("recipe"), folders.commands()
        near = sources.recipe_name(word)
        near = near if near in recipes else nearest(word, [*recipes, *commands])
        rule = "expected key=value, +key=value or ~key."
        hint = near if near in commands else near and f"+recipe={near}"
        return [Problem(COMMAND_LINE, rule, given=_shown(word), nearest=hint)]
    parsed = _parsed(_rewritten(word))
    if parsed is None:
        rule = f"cannot be read; text needs quotes of its own: '{match['key']}=\"…\"'."
        return [Problem(match["key"], rule, COMMAND_LINE, _shown(match["value"]))]
    if parsed.is_sweep_override() and not sweep:
        rule = "several values need -m; a list is written [a,b], text with commas '\"a,b\"'."
        return [Problem(match["key"], rule, COMMAND_LINE, _shown(match["value"]))]
    group = match["key"].partition("@")[0]
    if not _is_group(match["key"]) or match["sign"] == "~" or group.startswith("hydra"):
        return []
    if not parsed.is_sweep_override() and not isinstance(parsed.value(), str | list):
        rule = f"must be the name of a choice; to choose nothing: ~{match['key']}."
        return [Problem(match["key"], rule, COMMAND_LINE, match["value"])]
    names = installed.external(_rewritten(word).partition("=")[2]).strip("[]").split(",")
    return [problem for name in names for problem in _choice_problems(group, name.strip())]


def _choice_problems(group: str, name: str) -> list[Problem]:
    if name and not CHOICE.fullmatch(name):
        rule = "a choice is the name of a file without .yaml, and cannot be computed."
        return [Problem(group, rule, COMMAND_LINE, _shown(name))]
    return sources.check_choices([Choice(group, name, COMMAND_LINE)])


def _rewritten(word: str) -> str:
    match = _OVERRIDE.fullmatch(word)
    if match is None or match["value"] is None:
        return word
    sign, key, value = match["sign"] or "", match["key"], match["value"]
    if key == "recipe" and sign != "~":
        return f"+recipe={','.join(installed.internal(sources.recipe_name(name)) for name in value.split(','))}"
    if _is_group(key):
        return f"{'' if sign == '++' else sign}{key}={_CHOICES.sub(lambda name: installed.internal(name[0]), value)}"
    sign = sign or "++"
    if _QUOTABLE.fullmatch(value) and _parsed(f"{sign}{key}={value}") is None:
        return f'{sign}{key}="{value}"'
    return f"{sign}{key}={value}"


@cache
def _parsed(word: str) -> Any:
    """Return an override as Hydra's parser reads it, or None when it cannot."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(word)
    except HydraException:
        return None


def _is_group(key: str) -> bool:
    group = key.partition("@")[0]
    return "@" in key or group.startswith("hydra") or ("." not in group and group in sources.groups())


def _shown(text: str) -> str:
    return repr(text) if len(text) <= 80 else f"{text[:77]!r}..."
