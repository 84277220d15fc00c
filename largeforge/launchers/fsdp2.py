"""Fully sharded data parallel: weights, gradients and optimizer states are divided among processes.

PyTorch's `fully_shard` (FSDP2), through accelerate. Settings have accelerate's names, without its prefix `fsdp_`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from largeforge.estimate import sharding as estimate
from largeforge.recipe import launching
from largeforge.recipe.launching import WorkerSettings

if TYPE_CHECKING:
    from pathlib import Path

    from largeforge.recipe.launching import Place


class Config(launching.Strategy):
    """Several processes that share one model."""

    name: Literal["fsdp2"] = "fsdp2"
    reshard_after_forward: bool = True
    """Give up gathered weights after a layer's forward pass and gather them again for its backward pass."""
    cpu_offload: bool = False
    """Keep weights, gradients and optimizer states in the host's memory and step there."""
    state_dict_type: Literal["FULL_STATE_DICT", "SHARDED_STATE_DICT"] = "SHARDED_STATE_DICT"
    """Form of checkpoints: one file, or one for each process. The final model is whole in both."""


def world_size(config: Config, place: Place) -> int:
    """Return how many processes the worker must find itself among."""
    return launching.processes(config, place)


def sharding(config: Config, place: Place) -> estimate.Sharding:
    """Return how training is spread over GPUs."""
    return estimate.Sharding("fsdp2", world_size(config, place), offload="all" if config.cpu_offload else "none")


def strategy(config: Config) -> Config:
    """Return what the worker is told; how many processes there are is in the stage's own `world_size`."""
    return config.model_copy(update={"num_processes": 0})


def settings(config: Config, *, device: str, work: Path) -> WorkerSettings:
    """Return what accelerate is told.

    Weights are read by the first process alone and sent to the others; on a CPU each reads its own copy.
    """
    return WorkerSettings({
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_RESHARD_AFTER_FORWARD": _word(config.reshard_after_forward),
        "FSDP_OFFLOAD_PARAMS": _word(config.cpu_offload),
        "FSDP_STATE_DICT_TYPE": config.state_dict_type,
        "FSDP_CPU_RAM_EFFICIENT_LOADING": _word(device == "cuda"),
    })  # fmt: skip


def command(config: Config, module_args: list[str], place: Place) -> list[str]:
    """Return the argv that runs `python -m module_args…` in all processes of this machine."""
    return launching.torchrun(module_args, place, processes=world_size(config, place))


def _word(value: bool) -> str:
    return "true" if value else "false"
