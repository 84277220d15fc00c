"""What training a job needs on one GPU and how long it takes, and what would make it need less."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from largeforge import processor, rates
from largeforge.data import token_counts
from largeforge.errors import DataError
from largeforge.estimate.duration import cost, shape_key, training_flops, training_hours
from largeforge.estimate.inference import evaluation_memory, merge_memory
from largeforge.estimate.load import TrainingLoad
from largeforge.estimate.memory import Memory
from largeforge.estimate.schedule import RowLengths, Schedule, schedule
from largeforge.estimate.stored import BASES
from largeforge.estimate.training import training_memory
from largeforge.forecast.fixes import Change
from largeforge.forecast.stage import Forecast, TrainingForecast
from largeforge.rates import Achieved
from largeforge.recipe import extensions
from largeforge.recipe.tokenizer_file import tokenizer_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from largeforge.data.token_counts import TokenCounts
    from largeforge.estimate.shape import Shape
    from largeforge.forecast.models import Models
    from largeforge.hardware import Machine
    from largeforge.plan import Plan
    from largeforge.recipe.schema import Job, Recipe

TEMPLATE_SHARE, TEMPLATE_TOKENS = 1.05, 16
"""How much longer than counted the longest row may be, since the count does not render the chat template."""

HOST_UNKNOWN = "an adapter is merged in the host's memory, and how much the machine with that GPU has is not known"
RATES_UNKNOWN = "how long training takes is not known: the rates of this GPU are not (hardware.bf16_tflops, …)"
LEAST_RANK = 8
"""Rank of LoRA below which none is proposed."""


def forecast(recipe: Recipe, name: str, machine: Machine, models: Models) -> Forecast:
    """Return what the training of a job needs."""
    job = recipe.training_jobs[name]
    known = models.of(job.model)
    notes = [known.note] if known.note else []
    counts, reason = _counts(recipe, job)
    if reason:
        notes.append(reason)
    if known.shape is None:
        return Forecast(usable_bytes=machine.usable_bytes, assumptions=tuple(notes))
    load = training_load(recipe, job, machine, known.shape, longest=_longest(counts))
    if known.weights not in BASES:
        notes.append(f"{job.model.ref} is stored as {known.weights}; its training is counted in {load.weights}")
    done = _schedule(job, load, counts) if counts else None
    found = rates.known(_runs(recipe), achieved(job, machine, load)) if done else None
    hours = training_hours(load, done, machine.rates, achieved=found.flops_per_s if found else None) if done else None
    flops = training_flops(load, tokens=done.tokens, length=done.length) if done else 0.0
    if done and hours is None:
        notes.append(RATES_UNKNOWN)
    price = cost(hours, machine.rates, gpus=load.sharding.gpus) if hours else None
    memory = None
    try:
        memory = training_memory(load)
    except ValueError as error:
        notes.append(f"memory of the training is not known: {error}")
    return Forecast(
        memory=memory,
        usable_bytes=machine.usable_bytes,
        assumptions=(*notes, *_assumptions(job, load, counts)),
        hours=hours,
        cost=price,
        training=TrainingForecast(load, done, flops, _basis(found, machine) if hours else ""),
    )


def training_load(recipe: Recipe, job: Job, machine: Machine, shape: Shape, *, longest: int = 0) -> TrainingLoad:
    """Return a job's training as one GPU sees it.

    `longest` is the longest row in tokens where all rows were counted, else 0: then every row may
    have `max_length`.
    """
    method = job.method
    on_gpu = machine.device == "cuda"
    packed = getattr(method, "packing", False) or not longest
    automatic: Literal["bf16", "fp32"] = "bf16" if on_gpu else "fp32"
    precision = automatic if method.precision == "auto" else method.precision
    return TrainingLoad(
        shape=shape,
        method=extensions.load("method", method.name).footprint(method),
        adapter=extensions.load("adapter", job.adapter.name).footprint(job.adapter),
        sharding=extensions.load("launcher", recipe.launcher.name).sharding(recipe.launcher),
        batch=method.per_device_train_batch_size,
        length=method.max_length if packed else min(longest, method.max_length),
        weights=precision,
        compute=precision,
        optimizer=method.optim,
        checkpointing={"auto": on_gpu, "on": True, "off": False}[method.gradient_checkpointing],
        device=machine.device,
        rows="packed" if getattr(method, "packing", False) else "padded",
        accumulation=method.gradient_accumulation_steps,
    )


def achieved(job: Job, machine: Machine, load: TrainingLoad, *, flops: float = 0, seconds: float = 0) -> Achieved:
    """Return a training as `rates` remembers it; `seconds` are those of its steps."""
    kept = load.adapter.base_weights
    return Achieved(
        device=machine.name,
        model=shape_key(load.shape),
        method=job.method.name,
        adapter=job.adapter.name if kept == "as_precision" else f"{job.adapter.name}-{kept}",
        precision=load.compute,
        gpus=load.sharding.gpus,
        flops=flops,
        seconds=seconds,
    )


def remember(plan: Plan, stage: str, metrics: Mapping[str, float]) -> None:
    """Keep the rate that a finished training reached, for the plans after it; a rate that cannot be kept is let go."""
    forecast = plan.forecasts.get(stage)
    tokens_per_s = metrics.get("tokens_per_s", 0.0)
    if forecast is None or forecast.training is None or forecast.training.schedule is None or not tokens_per_s:
        return
    planned = next(found for found in plan.stages if found.name == stage)
    job = plan.recipe.training_jobs[planned.job]
    load, done = forecast.training.load, forecast.training.schedule
    flops = training_flops(load, tokens=metrics["tokens"], length=done.length)
    run = achieved(
        job, plan.machine.share(planned.threads), load, flops=flops, seconds=metrics["tokens"] / tokens_per_s
    )
    with suppress(OSError):
        rates.record(_runs(plan.recipe), run)


def candidates(recipe: Recipe, name: str, machine: Machine) -> list[list[Change]]:
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


def merging_candidates(recipe: Recipe, name: str) -> list[list[Change]]:
    """Return what makes merging need less: an adapter of lower rank, or not to merge."""
    prefix = f"jobs.{name}." if recipe.jobs else ""
    unmerged = Change(((f"{prefix}merge", False),), "the adapter stays apart from its base")
    return [list(_smaller_ranks(prefix, recipe.training_jobs[name])), [unmerged]]


def _runs(recipe: Recipe) -> Path:
    return Path(recipe.runs.root).expanduser().absolute()


def _counts(recipe: Recipe, job: Job) -> tuple[TokenCounts | None, str]:
    """Return what the data holds, or why that is not known."""
    data = job.dataset
    kind = extensions.load("method", job.method.name).DATA_KIND
    try:
        return token_counts.count(
            Path(data.path), kind=kind, form=data.format, system=data.system, max_rows=data.max_rows,
            tokenizer=tokenizer_file(job.model.ref, recipe.registry),
        ), ""  # fmt: skip
    except DataError as error:
        return None, f"how long training takes is not known: {error}"


def _longest(counts: TokenCounts | None) -> int:
    return math.ceil(counts.max * TEMPLATE_SHARE) + TEMPLATE_TOKENS if counts and counts.is_exact else 0


def _schedule(job: Job, load: TrainingLoad, counts: TokenCounts) -> Schedule:
    method, data = job.method, job.dataset
    held_out = 0.0 if data.heldout_path else data.heldout_fraction
    longest = float(method.max_length)
    lengths = RowLengths(*(min(float(size), longest) for size in (counts.mean, counts.p50, counts.p95, counts.max)))
    return schedule(
        lengths,
        rows=max(1, round(counts.rows * (1 - held_out))),
        batch=load.batch,
        accumulation=method.gradient_accumulation_steps,
        gpus=load.sharding.gpus,
        epochs=method.num_train_epochs,
        max_steps=method.max_steps,
        packed_length=method.max_length if getattr(method, "packing", False) else 0,
        sequences_per_row=load.method.sequences_per_row,
    )


def _assumptions(job: Job, load: TrainingLoad, counts: TokenCounts | None) -> Iterator[str]:
    if counts and counts.counted == "bytes":
        yield f"tokens are counted by bytes (±{counts.error:.0%}), since no tokenizer of {job.model.ref} is here"
    elif counts and counts.sampled:
        yield f"tokens are counted in a sample of {Path(job.dataset.path).name} (±{counts.error:.0%})"
    if load.length == job.method.max_length and not getattr(job.method, "packing", False):
        yield f"memory is for rows of max_length = {load.length} tokens"


def _basis(found: rates.Known | None, machine: Machine) -> str:
    if found is None:
        return "the processor's peak rate" if machine.device == "cpu" else "the hardware profile"
    runs = "an earlier run" if found.runs == 1 else f"{found.runs} earlier runs"
    return f"{runs} of {found.of} on this kind of machine"


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
    if machine.num_gpus > 1:
        for launcher in ("fsdp2", "deepspeed"):
            if launcher in extensions.names("launcher") and recipe.launcher.name != launcher:
                yield Change((("launcher", launcher),), f"spreads the model over {machine.num_gpus} GPUs")


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


def evaluation(recipe: Recipe, name: str, machine: Machine, models: Models) -> Forecast:
    """Return what judging a job's model beside its base needs, by the evaluation that needs most."""
    job = recipe.training_jobs[name]
    shape = models.of(job.model).shape
    if shape is None:
        return Forecast(usable_bytes=machine.usable_bytes)
    counts, _ = _counts(recipe, job)
    longest = min(_longest(counts) or job.method.max_length, job.method.max_length)
    memories = [
        evaluation_memory(
            shape,
            adapter=extensions.load("adapter", job.adapter.name).footprint(job.adapter),
            batch=getattr(evaluator, "batch_size", 1),
            prompt=longest,
            new_tokens=getattr(evaluator, "max_new_tokens", 0),
            weights="fp32" if machine.device == "cpu" else "bf16",
            device=machine.device,
        )
        for evaluator in job.evaluation.values()
    ]
    return Forecast(memory=max(memories, key=lambda memory: memory.total), usable_bytes=machine.usable_bytes)


def merging(recipe: Recipe, name: str, machine: Machine, models: Models) -> Forecast:
    """Return what merging a job's adapter into its base needs of the host's memory."""
    job = recipe.training_jobs[name]
    known = models.of(job.model)
    if known.shape is None:
        return Forecast()
    adapter = extensions.load("adapter", job.adapter.name).footprint(job.adapter)
    stored = known.weights if known.weights in ("fp32", "bf16", "fp16") else "bf16"
    memory = merge_memory(known.shape, adapter, stored=stored) if job.merge else Memory({"merging": {}})
    if machine.device == "cpu":
        return Forecast(memory=memory, usable_bytes=machine.usable_bytes)
    if not machine.is_here:
        return Forecast(memory=memory, assumptions=(HOST_UNKNOWN,))
    return Forecast(memory=memory, usable_bytes=processor.memory_limit_gib() * 2**30)


BY_KIND = {"train": forecast, "evaluate": evaluation, "merge": merging}
"""Kind of stage to what forecasts it."""
