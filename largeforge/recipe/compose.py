"""Compose a recipe with Hydra: overrides in, plain data out, with the place of every key.

A plain override such as `method.learning_rate=1e-4` is passed on as `++`, so that Hydra never
stops at the first typo; unknown keys are found by validation, all at once. A recipe is data:
interpolations may refer to other keys, but resolvers (`${oc.env:…}`) are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from largeforge.errors import Problem, RecipeError, nearest
from largeforge.recipe import sources
from largeforge.recipe.places import Places

if TYPE_CHECKING:
    from collections.abc import Sequence

_PLAIN_OVERRIDE = re.compile(r"(?P<key>[A-Za-z_][\w./@-]*)=")
_ANY_OVERRIDE = re.compile(r"(?:\+{1,2}|~)?[A-Za-z_][\w./@:-]*(?:=.*)?", re.DOTALL)
_RESOLVER = re.compile(r"\$\{\s*[\w.]+\s*:")


@dataclass(frozen=True)
class Composition:
    """A composed recipe, not yet validated."""

    values: dict[str, Any]
    places: Places
    recipe_folder: str
    """Folder of the recipe file: what `recipe:` paths are relative to."""


def compose(overrides: Sequence[str]) -> Composition:
    """Compose `conf/config.yaml` with the overrides of a command line.

    Raises RecipeError for anything that Hydra or OmegaConf rejects.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    check_syntax(overrides)
    sources.register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(sources.shipped_root() / "conf"), job_name="largeforge", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        rewritten = rewrite(overrides)
        try:
            config = hydra_compose("config", list(rewritten))
        except Exception as error:
            raise explain(error) from error
        places = Places.of(loader, rewritten)
    return Composition(plain(config, places), places, places.recipe_folder)


def plain(config: Any, places: Places) -> dict[str, Any]:
    """Return the composed config as plain data, with interpolations resolved.

    Raises RecipeError for resolvers, dangling interpolations and missing values.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    raw = OmegaConf.to_container(config, resolve=False)
    problems = [
        Problem(key, "resolvers are not allowed in a recipe: a recipe is data", places.of_key(key), repr(value))
        for key, value in _leaves(raw)
        if isinstance(value, str) and _RESOLVER.search(value)
    ]
    if problems:
        raise RecipeError(problems)
    try:
        values: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = str(error.full_key or "recipe")
        if isinstance(error, MissingMandatoryValue):
            raise RecipeError([Problem(key, f"is required: give it with {key}=…", places.of_key(key))]) from error
        raise RecipeError([Problem(key, str(error).splitlines()[0], places.of_key(key))]) from error
    return dict(values)


def check_syntax(overrides: Sequence[str]) -> None:
    """Raise RecipeError for words of the command line that are not `key=value`."""
    problems = [
        Problem("command line", "expected key=value, +key=value or ~key", given=repr(word))
        for word in overrides
        if not _ANY_OVERRIDE.fullmatch(word) or (not word.startswith("~") and "=" not in word)
    ]
    if problems:
        raise RecipeError(problems)


def rewrite(overrides: Sequence[str]) -> list[str]:
    """Return the overrides with `++` before plain values, which Hydra then accepts for any key."""
    result = []
    for word in overrides:
        match = _PLAIN_OVERRIDE.match(word)
        is_value = match is not None and "@" not in match["key"] and not _is_group(match["key"])
        result.append(f"++{word}" if is_value else word)
    return result


def _is_group(key: str) -> bool:
    if key in sources.GROUP_FOLDERS or key.startswith("hydra"):
        return True
    return "." not in key and any((root / "conf" / key).is_dir() for root in sources.roots())


def explain(error: Exception) -> RecipeError:
    """Return Hydra's complaint as a RecipeError that names the nearest choice."""
    from hydra.errors import MissingConfigException

    if isinstance(error, RecipeError):
        return error
    message = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        missing = str(error.missing_cfg_file)
        group, _, choice = missing.rpartition("/")
        options = [str(option) for option in error.options or ()]
        rule = f"no such {group or 'config'}; there is: {', '.join(options) or 'none'}."
        return RecipeError([Problem(group or "config", rule, given=repr(choice), nearest=nearest(choice, options))])
    unused = re.search(r"Could not override '([^']+)'", message)
    if unused:
        rule = f"this recipe has no choice for {unused[1]}; to add one: +{unused[1]}=…"
        return RecipeError([Problem(unused[1], rule, "command line")])
    return RecipeError([Problem("recipe", message)])


def _leaves(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [
            leaf for key, item in value.items() for leaf in _leaves(item, f"{prefix}.{key}" if prefix else str(key))
        ]
    if isinstance(value, list):
        return [leaf for index, item in enumerate(value) for leaf in _leaves(item, f"{prefix}.{index}")]
    return [(prefix, value)]
