"""No export: the recipe is carried out here."""

from __future__ import annotations

from typing import Literal

from largeforge.recipe.base import Extension


class Config(Extension):
    """Nothing is exported."""

    name: Literal["none"] = "none"
