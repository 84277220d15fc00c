"""One process on one device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from largeforge.estimate import sharding as estimate
from largeforge.recipe.base import Extension
from largeforge.recipe.launching import WorkerSettings

if TYPE_CHECKING:
    from pathlib import Path

    from largeforge.recipe.launching import Place


class Config(Extension):
    """One process."""

    name: Literal["single"] = "single"


def world_size(config: Config, place: Place) -> int:
    """Return how many processes the worker must find itself among."""
    return 1


def sharding(config: Config, place: Place) -> estimate.Sharding:
    """Return how training is spread over GPUs: not at all."""
    return estimate.SINGLE


def strategy(config: Config) -> Config:
    """Return what the worker is told: all of it."""
    return config


def settings(config: Config, *, device: str, work: Path) -> WorkerSettings:
    """Return what accelerate is told: nothing, it is given a device by trl's arguments."""
    return WorkerSettings()


def command(config: Config, module_args: list[str], place: Place) -> list[str]:
    """Return the argv that runs `python -m module_args…`; why not under `accelerate launch`: docs/decisions."""
    return [place.python, "-m", *module_args]
