"""The processes of a strategy on the nodes of a running Ray cluster."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from largeforge.cluster.spec import RaySpec
from largeforge.launchers import ddp, deepspeed, fsdp2, single
from largeforge.recipe import extensions, launching
from largeforge.recipe.base import Extension

if TYPE_CHECKING:
    from typing import Self

    from largeforge.estimate import sharding as estimate
    from largeforge.recipe.launching import Place

Strategy = Annotated[ddp.Config | fsdp2.Config | deepspeed.Config | single.Config, Field(discriminator="name")]


class Config(Extension):
    """Nodes of a Ray cluster that train one model."""

    name: Literal["ray"] = "ray"
    strategy: Strategy = ddp.Config()
    """How the model is spread over all processes, with the fields of the launcher of that name."""
    address: str = Field(default="auto", min_length=1)
    """`auto` for the cluster that this machine is a node of, `HOST:6379`, or from outside `ray://HOST:10001`."""
    nodes: int = Field(default=1, gt=0)
    """Nodes, with as many processes each."""
    gpus_per_node: int = Field(default=0, ge=0)
    """GPUs of a node, one for each process; 0 means those of this machine (`hardware.num_gpus`). Not used on a CPU."""
    cpus_per_process: float = Field(default=1, gt=0)
    """CPUs, as Ray counts them, that each process reserves; on a CPU also its threads."""
    placement: Literal["STRICT_SPREAD", "SPREAD", "PACK", "STRICT_PACK"] = "STRICT_SPREAD"
    """Where Ray puts the parts: each on a node of its own, or (`PACK`) together where there is room."""
    queue_timeout_s: float = Field(default=600, gt=0)
    """How long to wait until the cluster has room."""
    lost_after_s: float = Field(default=30, ge=5)
    """Silence after which a process counts as gone, and the training ends."""

    @model_validator(mode="after")
    def _one_process_is_on_one_node(self) -> Self:
        if self.strategy.name == "single" and self.nodes > 1:
            raise ValueError(f"nodes={self.nodes} takes a strategy of several processes; strategy.name=single has one")
        return self


def world_size(config: Config, place: Place) -> int:
    """Return how many processes the worker must find itself among."""
    return config.nodes * _processes(config, place)


def sharding(config: Config, place: Place) -> estimate.Sharding:
    """Return how training is spread over GPUs."""
    module = extensions.load("launcher", config.strategy.name)
    spread: estimate.Sharding = module.sharding(config.strategy, place)
    return replace(spread, gpus=world_size(config, place))


def strategy(config: Config) -> launching.Strategy | single.Config:
    """Return what the worker is told: the strategy, wherever its processes run."""
    given = config.strategy
    return given.model_copy(update={"num_processes": 0}) if isinstance(given, launching.Strategy) else given


def command(config: Config, module_args: list[str], place: Place) -> list[str]:
    """Return the argv that runs `python -m module_args…` in all processes of the cluster."""
    spec = RaySpec(
        str(place.folder), config.address, tuple(module_args), config.nodes, _processes(config, place),
        cpus=config.cpus_per_process, gpus=1 if place.device == "cuda" else 0, placement=config.placement,
        queue_timeout_s=config.queue_timeout_s, lost_after_s=config.lost_after_s, workdir=place.workdir,
        meets=config.strategy.name != "single",
    )  # fmt: skip
    return [place.python, "-m", "largeforge.cluster.ray_training", spec.encode()]


def _processes(config: Config, place: Place) -> int:
    """Return how many processes a node has."""
    if not isinstance(config.strategy, launching.Strategy):
        return 1
    return launching.processes(config.strategy, place, gpus=config.gpus_per_node)
