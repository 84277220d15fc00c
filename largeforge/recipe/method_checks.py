"""What a job's method allows: its own settings together, trl's extra fields, and what is done with the model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from largeforge.errors import Problem
from largeforge.recipe import extensions, made_for, method_extra, model_ref

if TYPE_CHECKING:
    from collections.abc import Iterator

    from largeforge.recipe.schema import Job, Recipe


def scores(kind: str, name: str) -> bool:
    """Tell whether a method makes, or an evaluator needs, a model that scores instead of writing."""
    return getattr(extensions.load(kind, name), "TASK_TYPE", "") == made_for.SEQ_CLS


def check(prefix: str, job: Job, recipe: Recipe) -> Iterator[Problem]:
    """Yield what is wrong with the method of a job, whose keys begin with `prefix`."""
    method = job.method
    own = getattr(extensions.load("method", method.name), "check", None)
    found = [*(own(method, job.adapter) if own else ()), *method_extra.check(method, method.extra)]
    for problem in found:
        yield replace(problem, key=f"{prefix}method.{problem.key}")
    makes_scores = scores("method", method.name)
    if makes_scores and method.sample_steps:
        yield Problem(f"{prefix}method.sample_steps", "a reward model scores and does not write; leave it 0.")
    for name, evaluator in job.evaluation.items():
        judging = getattr(extensions.load("evaluation", evaluator.name), "check", None)
        for problem in judging(evaluator) if judging else ():
            yield replace(problem, key=f"{prefix}evaluation.{name}.{problem.key}")
        if scores("evaluation", evaluator.name) and not makes_scores:
            yield Problem(f"{prefix}evaluation.{name}", f"judges reward models, and {method.name} makes none.")
        elif makes_scores and not scores("evaluation", evaluator.name):
            rule = f"judges what a model writes, and {method.name} makes one that scores; use reward_accuracy."
            yield Problem(f"{prefix}evaluation.{name}", rule)
    yield from _start(f"{prefix}model.ref", job.model.ref, recipe, may_score=makes_scores)


def check_expert(key: str, reference: str, recipe: Recipe) -> Iterator[Problem]:
    """Yield why what a reference names cannot answer as an expert of the topology."""
    job, files = of_job(reference, recipe), made_for.of_reference(reference, recipe.registry)
    if (job is not None and scores("method", job.method.name)) or (files is not None and files.scores):
        yield Problem(key, f"{reference} {made_for.SCORES}; it is not served as an expert.")


def _start(key: str, reference: str, recipe: Recipe, *, may_score: bool) -> Iterator[Problem]:
    """Check that a training can start from what a reference names."""
    job, files = of_job(reference, recipe), made_for.of_reference(reference, recipe.registry)
    if job is not None and scores("method", job.method.name) and not may_score:
        target = model_ref.parse(reference).target
        yield Problem(key, f"job {target} makes a reward model, which scores and does not write.")
    if files is not None and files.is_adapter:
        yield Problem(key, f"{reference} {made_for.IS_ADAPTER}.")
    elif files is not None and files.scores and not may_score:
        yield Problem(key, f"{reference} {made_for.SCORES}.")


def of_job(reference: str, recipe: Recipe) -> Job | None:
    """Return the job of this recipe that makes the model, if one does."""
    ref = model_ref.parse(reference)
    return recipe.training_jobs.get(ref.target) if ref.scheme == "job" else None
