"""Divide the rows of an optimizer step: as many in one forward pass as fit into memory, the rest accumulated.

How a step is divided changes its speed, not what is learnt: losses are means over all rows of the step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.errors import Problem, RecipeError
from largeforge.forecast import training
from largeforge.forecast.fixes import Change, changed
from largeforge.forecast.models import Models

if TYPE_CHECKING:
    from collections.abc import Iterator

    from largeforge.hardware import Machine
    from largeforge.recipe.schema import Recipe

FULL_TOKENS = 32768
"""Tokens of a forward pass beyond which a GPU is no busier (its matrix products are compute-bound long before)."""


def divided(recipe: Recipe, machine: Machine) -> Recipe:
    """Return the recipe with the batches of each job that gives `train_batch_size`.

    Raises RecipeError where the rows cannot be shared out evenly, or nobody knows how large the model is.
    """
    models = Models(recipe)
    problems: list[Problem] = []
    for name, job in recipe.training_jobs.items():
        if not job.method.train_batch_size:
            continue
        found = _best(recipe, name, machine, models)
        if isinstance(found, Problem):
            problems.append(found)
        else:
            recipe = found
    if problems:
        raise RecipeError(problems)
    return recipe


def _best(recipe: Recipe, name: str, machine: Machine, models: Models) -> Recipe | Problem:
    """Return the recipe with the largest batch of a job that surely fits, or else with one row at a time."""
    job = recipe.training_jobs[name]
    prefix = f"jobs.{name}." if recipe.jobs else ""
    key = f"{prefix}method.train_batch_size"
    rows, given = job.method.train_batch_size, str(job.method.train_batch_size)
    shape = models.of(job.model).shape
    if shape is None:
        rule = (
            f"the size of {job.model.ref} is not known here, so that no batch can be found; "
            "give per_device_train_batch_size and gradient_accumulation_steps instead."
        )
        return Problem(key, rule, given=given)
    gpus = training.training_load(recipe, job, machine, shape).sharding.gpus
    if rows % gpus:
        return Problem(key, f"must be a multiple of the {gpus} processes that train.", given=given)
    smallest = None
    for batch in _divisors(rows // gpus):
        overrides = (
            (f"{prefix}method.per_device_train_batch_size", batch),
            (f"{prefix}method.gradient_accumulation_steps", rows // gpus // batch),
        )
        smallest = changed(recipe, Change(overrides))
        if smallest is None:
            continue
        if batch > 1 and batch * job.method.max_length > FULL_TOKENS:
            continue
        if training.forecast(smallest, name, machine, models).verdict == "fits":
            return smallest
    return smallest if smallest is not None else recipe


def _divisors(number: int) -> Iterator[int]:
    """Yield the divisors of a number, the largest first."""
    return (size for size in range(number, 0, -1) if number % size == 0)
