"""The stages that prepare data, make a first model and train."""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.plan import Stage
from largeforge.planning.job import outside
from largeforge.recipe import extensions, further_models, launching

if TYPE_CHECKING:
    from largeforge.planning.job import PlannedJob
    from largeforge.recipe.schema import Job


def prepare(planned: PlannedJob) -> Stage:
    """Check and split the data."""
    method = extensions.load("method", planned.job.method.name)
    return Stage(
        name=planned.stage("prepare"), kind="prepare", job=planned.name, title="check and split the data",
        config={
            "dataset": planned.job.dataset.model_dump(), "kind": method.DATA_KIND,
            "judged": bool(planned.job.evaluation),
        },
        uses=planned.shown_path, produces="train and held-out rows",
    )  # fmt: skip


def init(planned: PlannedJob) -> Stage:
    """Make a tokenizer and random weights."""
    assert planned.job.model.architecture is not None and planned.job.model.tokenizer is not None
    config = {
        "architecture": planned.job.model.architecture.model_dump(),
        "tokenizer": planned.job.model.tokenizer.model_dump(),
        "seed": planned.recipe.seed,
        **planned.template,
    }
    return Stage(
        name=planned.stage("init"), kind="init", job=planned.name, title="make a tokenizer and random weights",
        config=config, inputs={"data": planned.stage("prepare")}, threads=1, uses="train rows",
        produces="untrained model",
    )  # fmt: skip


def train(planned: PlannedJob) -> Stage:
    """Train."""
    job = planned.job
    given = planned.recipe.launcher
    launcher, place = extensions.load("launcher", given.name), launching.place(planned.recipe, planned.machine)
    world_size = launcher.world_size(given, place)
    config = {
        "reference": planned.reference, "registry": planned.recipe.registry.model_dump(),
        "method": job.method.model_dump(), "adapter": job.adapter.model_dump(), "seed": planned.recipe.seed,
        "device": planned.machine.device, "launcher": launcher.strategy(given).model_dump(),
        "world_size": world_size, **planned.template,
    }  # fmt: skip
    threads = f"{planned.threads} thread{'s' if planned.threads > 1 else ''}"
    device = threads if planned.machine.device == "cpu" else planned.machine.gpu
    epochs, most = job.method.num_train_epochs, job.method.max_steps
    further = further_models.of_training(job)
    steps = f"{most} step{'s' if most > 1 else ''}" if most > 0 else f"{epochs:g} epoch{'s' if epochs != 1 else ''}"
    return Stage(
        name=planned.stage("train"), kind="train", job=planned.name, config=config, threads=planned.threads,
        title=f"{job.method.name} of {job.model.name or job.model.ref}",
        inputs={"data": planned.stage("prepare"), **planned.base, **planned.made_here(further)},
        launcher=given.model_dump(),
        uses=f"{steps} × {_batch(job, world_size)}, {f'{world_size} × ' if world_size > 1 else ''}{device}",
        produces="model" if job.adapter.name == "none" else f"{job.adapter.name} adapter",
        models=outside(further), reusable=planned.is_fixed(further),
    )  # fmt: skip


def _batch(job: Job, world_size: int) -> str:
    """Return how many rows an optimizer step sees, and how they come together."""
    rows, accumulated = job.method.per_device_train_batch_size, job.method.gradient_accumulation_steps
    whole = rows * accumulated * world_size
    parts = [str(rows), *([f"{accumulated} accumulated"] if accumulated > 1 else [])]
    parts += [f"{world_size} processes"] if world_size > 1 else []
    made = f" ({' × '.join(parts)})" if len(parts) > 1 else ""
    return f"{whole} row{'s' if whole > 1 else ''}{made}"
