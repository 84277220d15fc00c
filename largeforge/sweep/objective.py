"""Which metric ranks the trials, and which of its values are better.

A trial's metrics are named by the stage that measured them: those of an evaluation stand alone
(`exact_match`, `base.loss`, `vs_base.loss`), others carry the stage (`train.loss`), and where a
recipe has several jobs the job comes first (`mapper.exact_match`, `mapper.train.loss`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from largeforge.errors import Problem, RecipeError, listed, nearest
from largeforge.recipe.evaluation import BASELINE, judges, metrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from largeforge.recipe.schema import Job, Recipe, Sweep

BASE = "base."
"""Prefix of a metric of the model that the training started from."""

_TRAIN_METRICS = ("loss", "steps", "train_seconds", "tokens")
"""What every training method measures (`stages/train.py`)."""
_LOWER_IS_BETTER = ("loss", "perplexity", "error", "seconds", "latency", "steps", "tokens", "memory", "cost")
"""Words in the name of a metric whose lower values are better."""


def metrics_of(recipe: Recipe) -> list[str]:
    """Return the names of all metrics that a run of the recipe measures and that can rank it."""
    found = []
    for name, job in recipe.training_jobs.items():
        prefix = _prefix(recipe, name)
        judged = _judged(job)
        found += [f"{prefix}{metric}" for metric in judged]
        found += [f"{prefix}{base}{metric}" for base in (BASELINE, BASE) for metric in judged]
        found += [f"{prefix}train.{metric}" for metric in _TRAIN_METRICS]
    return found


def choose(recipes: Sequence[Recipe], settings: Sweep, swept: Iterable[str]) -> tuple[str, str]:
    """Return the metric that ranks trials of these recipes, and `minimize` or `maximize`.

    Empty for recipes that train nothing. Raises RecipeError for a metric that one of them does
    not measure, and where several jobs leave open which one is meant.
    """
    every = [metrics_of(recipe) for recipe in recipes]
    common = [metric for metric in every[0] if all(metric in other for other in every[1:])] if every else []
    wanted = settings.objective
    if wanted and wanted not in common:
        rule = f"no trial measures it; there is: {listed(common)}."
        if any(wanted in metrics for metrics in every):
            rule = f"not every trial measures it; what all do: {listed(common)}."
        raise RecipeError([Problem("sweep.objective", rule, given=repr(wanted), nearest=nearest(wanted, common))])
    metric = wanted or (_default(recipes[0], list(swept)) if common else "")
    if not wanted and metric and metric not in common:
        metric = common[0]
    return metric, direction(metric, settings)


def direction(metric: str, settings: Sweep) -> str:
    """Return `minimize` or `maximize` for a metric."""
    if settings.direction != "auto":
        return settings.direction
    name = metric.rpartition(".")[2]
    return "minimize" if any(word in name for word in _LOWER_IS_BETTER) else "maximize"


def named(stage: str, metrics: dict[str, Any]) -> dict[str, float]:
    """Return the metrics of a finished stage under the names that a sweep knows them by; NaN is left out."""
    job, _, kind = stage.rpartition(".")
    prefix = (f"{job}." if job else "") + ("" if kind == "evaluate" else f"{kind}.")
    return {f"{prefix}{name}": float(value) for name, value in metrics.items() if _is_number(value)}


def _default(recipe: Recipe, swept: list[str]) -> str:
    jobs = recipe.training_jobs
    touched = [name for name in jobs if any(key.startswith(f"jobs.{name}.") for key in swept)]
    candidates = touched or list(jobs)
    name = candidates[-1]
    if len(candidates) > 1:
        rule = f"is required where several jobs are swept over; there is: {listed(metrics_of(recipe))}."
        raise RecipeError([Problem("sweep.objective", rule)])
    return f"{_prefix(recipe, name)}{_of_job(jobs[name])}"


def _of_job(job: Job) -> str:
    judged = _judged(job)
    return next(iter([*job.gates, *judged, "train.loss"]))


def _judged(job: Job) -> list[str]:
    """Return what evaluators measure of the model alone."""
    return [metric for key, own in job.evaluation.items() if judges(own) != "pairs" for metric in metrics(key, own)]


def _prefix(recipe: Recipe, job: str) -> str:
    return f"{job}." if recipe.jobs else ""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
