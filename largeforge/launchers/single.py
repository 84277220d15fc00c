"""One process on one device, through `accelerate launch`."""

from __future__ import annotations

from typing import Literal

from largeforge.estimate import sharding as estimate
from largeforge.recipe.base import Extension


class Config(Extension):
    """One process."""

    name: Literal["single"] = "single"


def world_size(config: Config) -> int:
    """Return how many processes the worker must find itself among."""
    return 1


def sharding(config: Config) -> estimate.Sharding:
    """Return how training is spread over GPUs: not at all."""
    return estimate.SINGLE


def command(config: Config, module_args: list[str], *, python: str, device: str) -> list[str]:
    """Return the argv that runs `python -m module_args…` in one process."""
    options = ["--num_processes", "1", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    if device == "cpu":
        options.append("--cpu")
    return [python, "-m", "accelerate.commands.launch", *options, "-m", *module_args]
