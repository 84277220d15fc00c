"""One side of a comparison: what was recorded, or what a recipe would be now."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.errors import RecipeError, nearest
from largeforge.recorded import LATEST, Recorded, find

if TYPE_CHECKING:
    from largeforge.recipe.schema import Registry


def side(text: str, *, root: Path, registry: Registry) -> Recorded:
    """Return what `text` names: a run, a registered model, a lock, or a recipe with overrides ("quickstart seed=1").

    Raises RecipeError when it is none of them, or the recipe is wrong; RegistryError for a registered model.
    """
    from largeforge.recipe.sources import choices

    words = _words(text)
    if words and _is_recipe(words[0]):
        return of_recipe(words)
    try:
        return find(text, root=root, registry=registry)
    except RecipeError as error:
        if text.startswith((LATEST, "registry:")) or Path(text).exists():
            raise
        near = nearest(text, choices("recipe"))
        hint = f" Did you mean '{near}'?" if near else ""
        raise RecipeError(f"{str(error).rstrip('.')}; nor is there such a recipe.{hint}") from None


def of_recipe(words: list[str]) -> Recorded:
    """Return the lock that a recipe has now.

    Raises RecipeError when the recipe or an override is wrong.
    """
    from largeforge.planning import make_plan
    from largeforge.recipe.compose import compose
    from largeforge.recipe.sources import recipe_name
    from largeforge.recipe.validate import validate

    composition = compose([f"+recipe={recipe_name(words[0])}", *words[1:]])
    plan = make_plan(validate(composition), recipe_folder=composition.recipe_folder, packs=composition.packs)
    return Recorded(" ".join(["recipe", *words]), plan.lock)


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return [text]


def _is_recipe(word: str) -> bool:
    from largeforge.recipe.sources import choices, recipe_name

    return not Path(word).is_dir() and recipe_name(word) in choices("recipe")
