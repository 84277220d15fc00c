"""What training a job and merging its adapter need, and how long the training takes."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from largeforge import processor, rates
from largeforge.data import token_counts
from largeforge.errors import DataError, nearest
from largeforge.estimate.duration import cost, shape_key, training_flops, training_hours
from largeforge.estimate.inference import merge_memory
from largeforge.estimate.load import TrainingLoad
from largeforge.estimate.memory import Memory
from largeforge.estimate.schedule import RowLengths, Schedule, schedule
from largeforge.estimate.stored import BASES
from largeforge.estimate.training import training_memory
from largeforge.forecast import further
from largeforge.forecast.stage import Forecast, TrainingForecast
from largeforge.rates import Achieved
from largeforge.recipe import extensions, launching, method_extra
from largeforge.recipe.tokenizer_file import tokenizer_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from largeforge.data.token_counts import TokenCounts
    from largeforge.estimate.shape import Shape
    from largeforge.forecast.further import Further
    from largeforge.forecast.models import Models
    from largeforge.hardware import Machine
    from largeforge.plan import Plan
    from largeforge.recipe.schema import Job, Recipe

TEMPLATE_SHARE, TEMPLATE_TOKENS = 1.05, 64
"""How much longer than counted the longest row may be, since the count does not render the chat template, which may
bring a system prompt of its own."""

HOST_UNKNOWN = "an adapter is merged in the host's memory, and how much the machine with that GPU has is not known"
EXTRA_UNCHECKED = "trl is not installed here: method.extra is checked on the machine that trains, before the first step"
RATES_UNKNOWN = "how long training takes is not known: the rates of this GPU are not (hardware.bf16_tflops, …)"


def forecast(recipe: Recipe, name: str, machine: Machine, models: Models) -> Forecast:
    """Return what the training of a job needs."""
    machine = _of_one_process(machine, recipe)
    job = recipe.training_jobs[name]
    known = models.of(job.model)
    notes = [known.note] if known.note else []
    if method_extra.is_unchecked(job.method, job.method.extra):
        notes.append(EXTRA_UNCHECKED)
    counts, reason = counts_of(recipe, job)
    if reason:
        notes.append(reason)
    if known.shape is None:
        return Forecast(usable_bytes=machine.usable_bytes, assumptions=tuple(notes))
    beside = further.of_training(job, models)
    notes += beside.notes
    load = training_load(recipe, job, machine, known.shape, longest=longest_row(counts), beside=beside)
    if known.weights not in BASES:
        notes.append(f"{job.model.ref} is stored as {known.weights}; its training is counted in {load.weights}")
    done = _schedule(job, load, counts) if counts else None
    found = rates.known(_runs(recipe), achieved(job, machine, load)) if done else None
    hours = training_hours(load, done, machine.rates, achieved=found.flops_per_s if found else None) if done else None
    flops = training_flops(load, tokens=done.tokens, length=done.length) if done else 0.0
    if done and hours is None:
        notes.append(RATES_UNKNOWN)
    if machine.device == "cuda" and machine.num_gpus > load.sharding.gpus:
        notes.append(f"{load.sharding.gpus} of {machine.num_gpus} GPUs trains (launcher={recipe.launcher.name})")
    priced = load.sharding.gpus if machine.device == "cuda" else 1
    price = cost(hours, machine.rates, gpus=priced) if hours else None
    memory = None
    try:
        memory = training_memory(load)
    except ValueError as error:
        notes.append(f"memory of the training is not known: {error}")
    return Forecast(
        memory=memory,
        usable_bytes=machine.usable_bytes,
        refusal=_unknown_targets(known.shape, load)
        or further.refusal(job, known.shape, beside, processes=load.sharding.gpus),
        assumptions=(*notes, *_assumptions(job, load, counts)),
        hours=hours,
        cost=price,
        training=TrainingForecast(load, done, flops, _basis(found, machine) if hours else ""),
    )


def training_load(
    recipe: Recipe,
    job: Job,
    machine: Machine,
    shape: Shape,
    *,
    longest: int = 0,
    beside: Further = further.NONE,
) -> TrainingLoad:
    """Return a job's training as one GPU sees it.

    `longest` is the longest row in tokens where all rows were counted, else 0: then every row may
    have `max_length`. `beside` are the further models of the method.
    """
    method = job.method
    on_gpu = machine.device == "cuda"
    packed = getattr(method, "packing", False) or not longest
    automatic: Literal["bf16", "fp32"] = "bf16" if on_gpu else "fp32"
    precision = automatic if method.precision == "auto" else method.precision
    found = further.footprint(job, beside, precision)
    return TrainingLoad(
        shape=shape,
        method=found,
        adapter=extensions.load("adapter", job.adapter.name).footprint(job.adapter),
        sharding=extensions.load("launcher", recipe.launcher.name).sharding(
            recipe.launcher, launching.place(recipe, machine)
        ),
        batch=method.per_device_train_batch_size,
        length=(method.max_length if packed else min(longest, method.max_length)) + found.completion_length,
        weights=precision,
        compute=precision,
        optimizer=method.optim,
        checkpointing={"auto": on_gpu, "on": True, "off": False}[method.gradient_checkpointing],
        device=machine.device,
        rows="packed" if getattr(method, "packing", False) else "padded",
        accumulation=method.gradient_accumulation_steps,
    )


def _unknown_targets(shape: Shape, load: TrainingLoad) -> str:
    """Return what is wrong with the layers that an adapter names; nothing for a shape that is only guessed."""
    if shape.guessed or load.adapter.targets == "all-linear":
        return ""
    known = sorted({one.name for one in (*shape.linears, *shape.vision_linears)} | {"lm_head", "embed_tokens"})
    for name in load.adapter.targets:
        if name.rpartition(".")[2] not in known:
            near = nearest(name, known)
            hint = f" (nearest: {near})" if near else ""
            return f"adapter.lora_target_modules: the model has no layer {name!r}{hint}; it has {', '.join(known)}"
    return ""


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
    own = _of_one_process(plan.machine.share(planned.threads), plan.recipe)
    run = achieved(job, own, load, flops=flops, seconds=metrics["tokens"] / tokens_per_s)
    with suppress(OSError):
        rates.record(_runs(plan.recipe), run)


def _of_one_process(machine: Machine, recipe: Recipe) -> Machine:
    """Return what each process of a training has of a machine: a GPU of its own, or its part of the CPU."""
    processes = launching.local_processes(recipe, machine)
    if machine.device == "cuda" or processes == 1:
        return machine
    cores, usable = max(1, machine.cores // processes), machine.usable_bytes / 2**30
    return replace(machine.share(cores), usable_memory_gib=usable / processes)


def _runs(recipe: Recipe) -> Path:
    return Path(recipe.runs.root).expanduser().absolute()


def counts_of(recipe: Recipe, job: Job, *, held_out: bool = False) -> tuple[TokenCounts | None, str]:
    """Return what the training data or the file of held-out rows holds, or why that is not known."""
    kind = extensions.load("method", job.method.name).DATA_KIND
    try:
        return token_counts.count_dataset(
            job.dataset, kind=kind, tokenizer=tokenizer_file(job.model.ref, recipe.registry), held_out=held_out
        ), ""
    except DataError as error:
        return None, f"how long training takes is not known: {error}"


def longest_row(counts: TokenCounts | None) -> int:
    """Return a bound of the longest row in tokens; 0 where not all rows were looked at.

    Without a tokenizer it is the bytes of the longest row: no token is shorter than a byte.
    """
    if counts is None or counts.sampled:
        return 0
    tokens = counts.max * (1.0 if counts.counted == "tokens" else token_counts.BYTES_PER_TOKEN)
    return math.ceil(tokens * TEMPLATE_SHARE) + TEMPLATE_TOKENS


def _schedule(job: Job, load: TrainingLoad, counts: TokenCounts) -> Schedule:
    method, data = job.method, job.dataset
    held_out = 0.0 if data.heldout_path else data.heldout_fraction
    longest = float(method.max_length)
    lengths = RowLengths(*(min(float(size), longest) for size in (counts.mean, counts.p50, counts.p95, counts.max)))
    answers = getattr(method, "num_generations", 1) * getattr(method, "num_iterations", 1)
    return schedule(
        further.answered(lengths, load.method),
        rows=max(1, round(counts.rows * (1 - held_out))) * answers,
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
        names = ", ".join(Path(title).name for title in job.dataset.titles)
        yield f"tokens are counted in a sample of {names} (±{counts.error:.0%})"
    answer = load.method.completion_length
    if answer:
        yield f"memory and time are for answers of {answer} tokens, the most that is generated"
    if counts and counts.counted == "bytes" and load.length - answer < job.method.max_length:
        yield f"memory is for rows of up to {load.length - answer} tokens, a bound from their bytes"
    if load.length - answer == job.method.max_length and not getattr(job.method, "packing", False):
        yield f"memory is for rows of max_length = {load.length - answer} tokens"


def _basis(found: rates.Known | None, machine: Machine) -> str:
    if found is None:
        return "the processor's peak rate" if machine.device == "cpu" else "the hardware profile"
    runs = "an earlier run" if found.runs == 1 else f"{found.runs} earlier runs"
    return f"{runs} of {found.of} on this kind of machine"


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
