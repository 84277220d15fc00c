"""What judging a job's model needs, and comparing what would be served with what was trained."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from largeforge.estimate.inference import evaluation_memory
from largeforge.estimate.memory import Memory
from largeforge.forecast import further, serving
from largeforge.forecast.stage import Forecast
from largeforge.forecast.training import counts_of, longest_row
from largeforge.recipe import extensions
from largeforge.recipe.evaluation import answered_by_vllm, judges

if TYPE_CHECKING:
    from largeforge.estimate.shape import Shape
    from largeforge.forecast.further import Further
    from largeforge.forecast.models import Models
    from largeforge.hardware import Machine
    from largeforge.recipe.schema import Job, Recipe

PARITY_BATCH = 16
"""Prompts that the trained model answers at once while it is compared with a server."""


def evaluation(recipe: Recipe, name: str, machine: Machine, models: Models) -> Forecast:
    """Return what judging a job's model beside its base needs, by the evaluation that needs most.

    Where vLLM answers, its server is there before and after the model of this process, never beside it.
    """
    job = recipe.training_jobs[name]
    shape = models.of(job.model).shape
    if shape is None:
        return Forecast(usable_bytes=machine.usable_bytes)
    served = answered_by_vllm(job, machine.device)
    longest = _longest(recipe, job)
    memories = [
        _in_this_process(
            job, machine, shape, longest, batch=getattr(evaluator, "batch_size", 1),
            new_tokens=getattr(evaluator, "max_new_tokens", 0),
        )
        for evaluator in job.evaluation.values()
        if not served or judges(evaluator) == "model"
    ]  # fmt: skip
    beside = further.of_evaluation(job, models)
    found = _largest(machine, memories, beside)
    return _more(found, serving.of_job(recipe, name, machine, models)) if served else found


def parity(recipe: Recipe, name: str, machine: Machine, models: Models) -> Forecast:
    """Return what the trained model needs, or the server after it, whichever is more."""
    job = recipe.training_jobs[name]
    shape = models.of(job.model).shape
    if shape is None:
        return Forecast(usable_bytes=machine.usable_bytes)
    if job.parity.check == "never":  # asked for only as a way out of what does not fit
        return Forecast(memory=Memory({"nothing": {}}), usable_bytes=machine.usable_bytes)
    memory = _in_this_process(
        job, machine, shape, _longest(recipe, job), batch=PARITY_BATCH, new_tokens=job.parity.answer_tokens
    )
    return _more(_largest(machine, [memory], further.NONE), serving.of_job(recipe, name, machine, models))


def _in_this_process(job: Job, machine: Machine, shape: Shape, longest: int, *, batch: int, new_tokens: int) -> Memory:
    return evaluation_memory(
        shape, adapter=extensions.load("adapter", job.adapter.name).footprint(job.adapter), batch=batch,
        prompt=longest, new_tokens=new_tokens, weights=_precision(machine), device=machine.device,
    )  # fmt: skip


def _largest(machine: Machine, memories: list[Memory], beside: Further) -> Forecast:
    if not memories:
        return Forecast(usable_bytes=machine.usable_bytes, assumptions=beside.notes)
    memory = further.beside(max(memories, key=lambda memory: memory.total), beside, _precision(machine))
    return Forecast(memory=memory, usable_bytes=machine.usable_bytes, assumptions=beside.notes)


def _more(here: Forecast, server: Forecast) -> Forecast:
    """Return the forecast of a process or of the server before or after it: the one that leaves less."""
    notes = tuple(dict.fromkeys((*here.assumptions, *server.assumptions)))
    if server.refusal or here.memory is None:
        return replace(server, assumptions=notes)
    if server.memory is None or server.verdict == "unknown":
        return replace(here, assumptions=notes)
    spare = {id(one): one.usable_bytes - one.needed_bytes for one in (here, server)}
    return replace(min(here, server, key=lambda one: spare[id(one)]), assumptions=notes)


def _longest(recipe: Recipe, job: Job) -> int:
    counts, _ = counts_of(recipe, job, held_out=True)
    return min(longest_row(counts) or job.method.max_length, job.method.max_length)


def _precision(machine: Machine) -> str:
    return "fp32" if machine.device == "cpu" else "bf16"
