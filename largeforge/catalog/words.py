"""From words of a command line to a registry and the versions in it."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Any

from largeforge.errors import RecipeError
from largeforge.recipe import model_ref

if TYPE_CHECKING:
    from collections.abc import Sequence

    from largeforge.recipe.model_ref import ModelRef
    from largeforge.recipe.schema import Registry

_SETTING = re.compile(r"registry(\.\w+)*=.*", re.DOTALL)


class Parser(argparse.ArgumentParser):
    """A parser that takes `registry.…=` words anywhere, as a recipe's command line does; they become `settings`."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Take the settings out, then parse the others."""
        words = list(args or [])
        is_setting = [
            bool(_SETTING.fullmatch(word)) and before not in self._taking_text()
            for before, word in zip(["", *words], words, strict=False)
        ]
        namespace = namespace or argparse.Namespace()
        namespace.settings = [word for word, taken in zip(words, is_setting, strict=True) if taken]
        return super().parse_known_args(
            [word for word, taken in zip(words, is_setting, strict=True) if not taken], namespace
        )

    def _taking_text(self) -> set[str]:
        return {text for action in self._actions if action.nargs is None for text in action.option_strings}


def settings(words: Sequence[str]) -> Registry:
    """Return the registry that `registry=…` and `registry.…=` words choose, as in a recipe.

    Raises RecipeError for a wrong key, with the nearest one.
    """
    from pydantic import ValidationError

    from largeforge.recipe.compose import compose
    from largeforge.recipe.schema import Registry
    from largeforge.recipe.validate import explain

    composition = compose(["name=models", *words])
    try:
        return Registry.model_validate(composition.values["registry"])
    except ValidationError as error:
        details = error.errors(include_url=False)
        for detail in details:
            detail["loc"] = ("registry", *detail["loc"])
        raise RecipeError([explain(each, composition.values, composition.places) for each in details]) from None


def reference(text: str) -> ModelRef:
    """Return the version that NAME, NAME@ALIAS or NAME/NUMBER means; `registry:` before it may be left out.

    Raises RecipeError when it is none of these.
    """
    try:
        return model_ref.parse(f"registry:{text.removeprefix('registry:')}")
    except ValueError as error:
        raise RecipeError(f"{text}: {error}; registry: may be left out here") from None
