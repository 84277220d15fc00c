"""DeepSpeed's ZeRO: optimizer states, gradients, weights divided among processes (arXiv:1910.02054)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from largeforge.estimate import sharding as estimate
from largeforge.recipe import launching
from largeforge.recipe.launching import WorkerSettings

if TYPE_CHECKING:
    from pathlib import Path

    from largeforge.recipe.launching import Place

FILE = "deepspeed.json"
"""Name of DeepSpeed's configuration in the work folder of a training."""


class Config(launching.Strategy):
    """Several processes under DeepSpeed."""

    name: Literal["deepspeed"] = "deepspeed"
    zero_stage: Literal[1, 2, 3] = 2
    """What is divided: 1 optimizer states, 2 gradients as well, 3 weights as well."""
    offload: Literal["none", "optimizer", "all"] = "none"
    """What lives in the host's memory: optimizer states, or weights as well (stage 3 only)."""
    pin_memory: bool = True
    """Lock offloaded memory, which makes transfers faster."""
    overlap_comm: bool = True
    """Send gradients while the backward pass still runs, at the price of more memory for buffers."""
    stage3_max_live_parameters: int = Field(default=1_000_000_000, gt=0)
    """Most parameters that stage 3 keeps gathered on a GPU."""

    @model_validator(mode="after")
    def _offloads_what_it_divides(self) -> Config:
        if self.offload == "all" and self.zero_stage != 3:
            raise ValueError("offload=all takes zero_stage=3: only weights that are divided can be offloaded")
        return self


def world_size(config: Config, place: Place) -> int:
    """Return how many processes the worker must find itself among."""
    return launching.processes(config, place)


def sharding(config: Config, place: Place) -> estimate.Sharding:
    """Return how training is spread over GPUs."""
    stages: dict[int, estimate.Strategy] = {1: "zero1", 2: "zero2", 3: "zero3"}
    return estimate.Sharding(stages[config.zero_stage], world_size(config, place), offload=config.offload)


def strategy(config: Config) -> Config:
    """Return what the worker is told; how many processes there are is in the stage's own `world_size`."""
    return config.model_copy(update={"num_processes": 0})


def settings(config: Config, *, device: str, work: Path) -> WorkerSettings:
    """Return what accelerate and DeepSpeed are told."""
    environment = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_CONFIG_FILE": str(work / FILE)}
    if device == "cpu":
        environment["DS_ACCELERATOR"] = "cpu"
    return WorkerSettings(environment, {work / FILE: configuration(config, device=device)})


def configuration(config: Config, *, device: str) -> dict[str, Any]:
    """Return DeepSpeed's own configuration; transformers fills in what is `auto`."""
    pinned = config.pin_memory and device == "cuda"
    zero: dict[str, Any] = {"stage": config.zero_stage, "overlap_comm": config.overlap_comm}
    if config.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": pinned}
    if config.zero_stage == 3:
        zero["stage3_max_live_parameters"] = config.stage3_max_live_parameters
        zero["stage3_gather_16bit_weights_on_model_save"] = True
        if config.offload == "all":
            zero["offload_param"] = {"device": "cpu", "pin_memory": pinned}
    return {
        "zero_optimization": zero,
        "bf16": {"enabled": "auto"},
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        # the optimizer is transformers' own: the same as in every other training of the recipe
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }


def command(config: Config, module_args: list[str], place: Place) -> list[str]:
    """Return the argv that runs `python -m module_args…` in all processes of this machine."""
    return launching.torchrun(module_args, place, processes=world_size(config, place))
