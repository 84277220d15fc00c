"""What may make a job's training, judging or merging fit; `fixes` finds out whether it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.forecast.fixes import Change
from largeforge.recipe import extensions, launching

if TYPE_CHECKING:
    from collections.abc import Iterator

    from largeforge.hardware import Machine
    from largeforge.recipe.schema import Job, Recipe

LEAST_RANK = 8
"""Rank of LoRA below which none is proposed."""


def training_candidates(recipe: Recipe, name: str, machine: Machine) -> list[list[Change]]:
    """Return kinds of changes that may make a job's training fit, what costs the user least first."""
    job = recipe.training_jobs[name]
    prefix = f"jobs.{name}." if recipe.jobs else ""
    method, on_gpu = job.method, machine.device == "cuda"
    recomputing = method.gradient_checkpointing == "on" or (method.gradient_checkpointing == "auto" and on_gpu)
    checkpointing = Change(((f"{prefix}method.gradient_checkpointing", "on"),), "steps take about a third longer")
    bf16 = Change(((f"{prefix}method.precision", "bf16"),), "computes in bf16")
    return [
        list(_smaller_batches(prefix, job)),
        [] if recomputing else [checkpointing],
        list(_sharded(recipe, machine)),
        [bf16] if method.precision == "fp32" and on_gpu else [],
        list(_smaller_ranks(prefix, job)),
        list(_adapters(prefix, job)),
        list(_shorter(prefix, job)),
    ]


def evaluation_candidates(recipe: Recipe, name: str) -> list[list[Change]]:
    """Return smaller batches for each evaluation that generates, the only thing that grows with them."""
    prefix = f"jobs.{name}." if recipe.jobs else ""
    sizes = {
        key: evaluator.batch_size
        for key, evaluator in recipe.training_jobs[name].evaluation.items()
        if hasattr(evaluator, "max_new_tokens") and hasattr(evaluator, "batch_size")
    }
    halved = [size for size in (32, 16, 8, 4, 2, 1) if any(size < given for given in sizes.values())]
    return [
        [Change(tuple((f"{prefix}evaluation.{key}.batch_size", size) for key in sizes)) for size in halved],
        list(_smaller_ranks(prefix, recipe.training_jobs[name])),
        list(_adapters(prefix, recipe.training_jobs[name])),
        list(_shorter(prefix, recipe.training_jobs[name])),
    ]


def judging_candidates(recipe: Recipe, name: str, kind: str) -> list[list[Change]]:
    """Return how to judge without a vLLM server."""
    prefix = f"jobs.{name}." if recipe.jobs else ""
    if kind == "evaluate":
        return [[Change(((f"{prefix}judging.engine", "transformers"),), "answers take longer")]]
    return [[Change(((f"{prefix}parity.check", "never"),), "nothing compares what is served with what was trained")]]


def merging_candidates(recipe: Recipe, name: str) -> list[list[Change]]:
    """Return what makes merging need less: an adapter of lower rank, or not to merge."""
    prefix = f"jobs.{name}." if recipe.jobs else ""
    unmerged = Change(((f"{prefix}merge", False),), "the adapter stays apart from its base")
    return [list(_smaller_ranks(prefix, recipe.training_jobs[name])), [unmerged]]


def quantizing_candidates(recipe: Recipe, name: str) -> list[Change]:
    """Return what makes quantizing need less: fewer rows to calibrate with."""
    prefix = f"jobs.{name}." if recipe.jobs else ""
    rows = getattr(recipe.training_jobs[name].quantization, "calibration_rows", 0)
    fewer = [count for count in (rows // 2, rows // 4) if count]
    return [Change(((f"{prefix}quantization.calibration_rows", count),), "calibrated less well") for count in fewer]


def _smaller_batches(prefix: str, job: Job) -> Iterator[Change]:
    """Yield smaller batches with as much more accumulation, so that a step still sees as many rows."""
    rows, accumulated = job.method.per_device_train_batch_size, job.method.gradient_accumulation_steps
    sizes = {rows // 2**halvings for halvings in range(1, 12) if rows % 2**halvings == 0} | {1}
    for size in sorted(sizes - {rows}, reverse=True):
        yield Change((
            (f"{prefix}method.per_device_train_batch_size", size),
            (f"{prefix}method.gradient_accumulation_steps", accumulated * rows // size),
        ))  # fmt: skip


def _sharded(recipe: Recipe, machine: Machine) -> Iterator[Change]:
    """Yield ways to spread the model over the GPUs that there are, from the quickest to what spares most memory."""
    launcher = recipe.launcher
    gpus = extensions.load("launcher", launcher.name).world_size(launcher, launching.place(recipe, machine))
    if machine.device == "cpu" or max(machine.num_gpus, gpus) < 2:
        return
    inside = hasattr(launcher, "strategy")  # several hosts, or a job: the strategy is a section of its own
    key, prefix = ("launcher.strategy.name", "launcher.strategy.") if inside else ("launcher", "launcher.")
    spread = f"spreads the model over {gpus if inside else machine.num_gpus} GPUs"
    zero3 = ((key, "deepspeed"), (f"{prefix}zero_stage", 3))
    yield Change(((key, "fsdp2"),), spread)
    yield Change(zero3, spread)
    for offload, what in (("optimizer", "optimizer states"), ("all", "weights and optimizer states")):
        effect = f"{spread}; {what} in the host's memory make steps slower"
        yield Change((*zero3, (f"{prefix}offload", offload)), effect)


def _smaller_ranks(prefix: str, job: Job) -> Iterator[Change]:
    """Yield smaller ranks of LoRA with as much of alpha, so that the scale of the additions stays."""
    rank, alpha = getattr(job.adapter, "lora_r", 0), getattr(job.adapter, "lora_alpha", 0)
    while rank >= 2 * LEAST_RANK and rank % 2 == 0 and alpha % 2 == 0:
        rank, alpha = rank // 2, alpha // 2
        yield Change(
            ((f"{prefix}adapter.lora_r", rank), (f"{prefix}adapter.lora_alpha", alpha)), "learns with fewer weights"
        )


def _adapters(prefix: str, job: Job) -> Iterator[Change]:
    cheaper = {"none": ("lora", "qlora"), "lora": ("qlora",)}.get(job.adapter.name, ())
    effects = {"lora": "trains an adapter instead of all weights", "qlora": "keeps the frozen weights in 4 bits"}
    for adapter in cheaper:
        if adapter in extensions.names("adapter"):
            yield Change(((f"{prefix}adapter", adapter),), effects[adapter])


def _shorter(prefix: str, job: Job) -> Iterator[Change]:
    length = job.method.max_length
    while length > 512:
        length = max(512, length // 2 // 64 * 64)
        yield Change(((f"{prefix}method.max_length", length),), f"rows over {length} tokens must go")
