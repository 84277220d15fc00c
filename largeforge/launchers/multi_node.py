"""The processes of a strategy on all hosts for training of the inventory (`hosts=`), a unit of systemd on each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from largeforge.cluster.spec import Part
from largeforge.launchers import ddp, deepspeed, fsdp2
from largeforge.recipe import extensions, launching
from largeforge.recipe.base import Extension, Port

if TYPE_CHECKING:
    from largeforge.estimate import sharding as estimate
    from largeforge.recipe.launching import Place
    from largeforge.recipe.sections.hosts import Host

Strategy = Annotated[ddp.Config | fsdp2.Config | deepspeed.Config, Field(discriminator="name")]


class Config(Extension):
    """Several hosts that train one model."""

    name: Literal["multi_node"] = "multi_node"
    strategy: Strategy = ddp.Config()
    """How the model is spread over all processes, with the fields of the launcher of that name."""
    rdzv_port: Port = 0
    """Port of the first host at which the others meet it; 0 takes a free one."""
    connect_timeout_s: float = Field(default=60, gt=0)
    """Time in which every host must have come to the first one."""
    lost_after_s: float = Field(default=30, ge=5)
    """Silence after which a host counts as gone for the others, and the training ends."""


def world_size(config: Config, place: Place) -> int:
    """Return how many processes the worker must find itself among."""
    return sum(processes_of(config, host, place) for host in place.hosts.values())


def sharding(config: Config, place: Place) -> estimate.Sharding:
    """Return how training is spread over GPUs."""
    module = extensions.load("launcher", config.strategy.name)
    spread: estimate.Sharding = module.sharding(config.strategy, place)
    return replace(spread, gpus=world_size(config, place))


def strategy(config: Config) -> launching.Strategy:
    """Return what the worker is told: the strategy, wherever its processes run."""
    return config.strategy.model_copy(update={"num_processes": 0})


def command(config: Config, module_args: list[str], place: Place) -> list[str]:
    """Return the argv that runs `python -m module_args…` in all processes of this machine, the only host."""
    return launching.torchrun(module_args, place, processes=world_size(config, place))


def part(config: Config, module_args: list[str], place: Place, *, host: str, port: int, key: str) -> Part:
    """Return what one of several hosts does; `port` is a free one of the first host, should the recipe name none.

    The first host has the first process. `key` is known to the hosts of this attempt alone.
    """
    addresses = {name: each.reached_at.strip("[]") for name, each in place.hosts.items()}
    rendezvous = (
        "--rdzv-backend=static", f"--nnodes={len(addresses)}", f"--node-rank={list(addresses).index(host)}",
        f"--master-addr={next(iter(addresses.values()))}", f"--local-addr={addresses[host]}",
    )  # fmt: skip
    processes = processes_of(config, place.hosts[host], place)
    argv = launching.torchrun(module_args, place, processes=processes, rendezvous=rendezvous)
    return Part(
        host, addresses, tuple(argv), config.rdzv_port or port, key, config.connect_timeout_s, config.lost_after_s
    )  # fmt: skip


def processes_of(config: Config, host: Host, place: Place) -> int:
    """Return how many processes run on one of the hosts."""
    return launching.processes(config.strategy, place, gpus=host.num_gpus)
