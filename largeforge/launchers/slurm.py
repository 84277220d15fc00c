"""The processes of a strategy as a job of a Slurm cluster, through submitit. Fields have submitit's names."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from largeforge.cluster.spec import JobSpec
from largeforge.launchers import ddp, deepspeed, fsdp2
from largeforge.recipe import extensions, launching
from largeforge.recipe.base import Extension

if TYPE_CHECKING:
    from largeforge.estimate import sharding as estimate
    from largeforge.recipe.launching import Place

Strategy = Annotated[ddp.Config | fsdp2.Config | deepspeed.Config, Field(discriminator="name")]


class Config(Extension):
    """A job in the queue of a cluster."""

    name: Literal["slurm"] = "slurm"
    strategy: Strategy = ddp.Config()
    """How the model is spread over all processes, with the fields of the launcher of that name."""
    cluster: Literal["slurm", "local"] = "slurm"
    """`local` runs the job on this machine without Slurm, to try a recipe out."""
    nodes: int = Field(default=1, gt=0)
    """Nodes to ask for."""
    gpus_per_node: int = Field(default=0, ge=0)
    """GPUs to ask for on each; 0 means one for each process, and none on a CPU."""
    cpus_per_task: int = Field(default=0, ge=0)
    """Cores to ask for on each node; 0 leaves it to the cluster."""
    mem_gb: float = Field(default=0, ge=0)
    """Memory to ask for on each node, in GB; 0 leaves it to the cluster."""
    timeout_min: int = Field(default=60, gt=0)
    """Time limit of the job, in minutes."""
    signal_delay_s: int = Field(default=120, ge=5)
    """How long before its time limit a job is told to save a checkpoint and to go back into the queue."""
    max_requeues: int = Field(default=3, ge=0)
    """How often a job that reached its time limit goes back into the queue by itself."""
    partition: str = ""
    """Partition; empty leaves it to the cluster."""
    account: str = ""
    """Account to charge; empty leaves it to the cluster."""
    qos: str = ""
    """Quality of service; empty leaves it to the cluster."""
    constraint: str = ""
    """Features that nodes must have; empty means any."""
    additional_parameters: dict[str, str | int | bool] = {}
    """Further options of sbatch, without dashes in front."""
    setup: list[str] = []
    """Lines of shell that the job runs first, such as `module load cuda`."""


def world_size(config: Config, place: Place) -> int:
    """Return how many processes the worker must find itself among."""
    return config.nodes * _processes(config, place)


def sharding(config: Config, place: Place) -> estimate.Sharding:
    """Return how training is spread over GPUs."""
    module = extensions.load("launcher", config.strategy.name)
    spread: estimate.Sharding = module.sharding(config.strategy, place)
    return replace(spread, gpus=world_size(config, place))


def strategy(config: Config) -> launching.Strategy:
    """Return what the worker is told: the strategy, wherever its processes run."""
    return config.strategy.model_copy(update={"num_processes": 0})


def command(config: Config, module_args: list[str], place: Place) -> list[str]:
    """Return the argv that submits and follows a job which runs `python -m module_args…` in all processes."""
    processes = _processes(config, place)
    spec = JobSpec(
        str(place.folder), config.cluster, place.python, tuple(module_args), config.nodes, processes,
        parameters=parameters(config, gpus=(config.gpus_per_node or processes) if place.device == "cuda" else 0),
        max_requeues=config.max_requeues,
    )  # fmt: skip
    return [place.python, "-m", "largeforge.cluster.slurm", spec.encode()]


def parameters(config: Config, *, gpus: int) -> dict[str, Any]:
    """Return what submitit is asked for; without what is left to the cluster."""
    given: dict[str, Any] = {
        "name": "largeforge", "nodes": config.nodes, "tasks_per_node": 1, "timeout_min": config.timeout_min,
        "gpus_per_node": gpus, "cpus_per_task": config.cpus_per_task, "mem_gb": config.mem_gb,
        "slurm_signal_delay_s": config.signal_delay_s, "slurm_partition": config.partition,
        "slurm_account": config.account, "slurm_qos": config.qos, "slurm_constraint": config.constraint,
        "slurm_setup": config.setup, "slurm_additional_parameters": config.additional_parameters,
        "slurm_srun_args": ["--kill-on-bad-exit=1"],
    }  # fmt: skip
    common = ("name", "nodes", "tasks_per_node", "timeout_min", "gpus_per_node", "cpus_per_task", "mem_gb")
    wanted = given if config.cluster == "slurm" else {key: given[key] for key in common}
    return {key: value for key, value in wanted.items() if value}


def _processes(config: Config, place: Place) -> int:
    return launching.processes(config.strategy, place, gpus=config.gpus_per_node)
