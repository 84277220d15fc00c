"""No adapter: all weights are trained."""

from __future__ import annotations

from typing import Literal

from largeforge.recipe.base import Extension


class Config(Extension):
    """All weights are trained."""

    name: Literal["none"] = "none"


def peft_config(config: Config) -> None:
    """Return None: there is nothing to add to the model."""
