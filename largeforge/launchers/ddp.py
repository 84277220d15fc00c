"""Distributed data parallel: each process has the whole model and a part of each batch (arXiv:2006.15704)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from largeforge.estimate import sharding as estimate
from largeforge.recipe import launching
from largeforge.recipe.launching import WorkerSettings

if TYPE_CHECKING:
    from pathlib import Path

    from largeforge.recipe.launching import Place


class Config(launching.Strategy):
    """Several processes with a copy of the model each."""

    name: Literal["ddp"] = "ddp"


def world_size(config: Config, place: Place) -> int:
    """Return how many processes the worker must find itself among."""
    return launching.processes(config, place)


def sharding(config: Config, place: Place) -> estimate.Sharding:
    """Return how training is spread over GPUs."""
    return estimate.Sharding("ddp", world_size(config, place))


def strategy(config: Config) -> Config:
    """Return what the worker is told; how many processes there are is in the stage's own `world_size`."""
    return config.model_copy(update={"num_processes": 0})


def settings(config: Config, *, device: str, work: Path) -> WorkerSettings:
    """Return what accelerate is told: nothing, it finds the processes by torchrun's variables."""
    return WorkerSettings()


def command(config: Config, module_args: list[str], place: Place) -> list[str]:
    """Return the argv that runs `python -m module_args…` in all processes of this machine."""
    return launching.torchrun(module_args, place, processes=world_size(config, place))
