"""No adapter: all weights are trained."""

from __future__ import annotations

from typing import Literal

from largeforge.estimate import footprints
from largeforge.recipe.base import Extension


class Config(Extension):
    """All weights are trained."""

    name: Literal["none"] = "none"


def footprint(config: Config) -> footprints.AdapterFootprint:
    """Return what is trained instead of the weights: nothing."""
    return footprints.FULL


def peft_config(config: Config) -> None:
    """Return None: there is nothing to add to the model."""


def quantization(config: Config, *, precision: str) -> None:
    """Return None: the model is loaded as it is."""
