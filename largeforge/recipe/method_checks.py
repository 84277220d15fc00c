"""What a job's method allows: its own settings together, trl's extra fields, and what is done with the model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from largeforge.errors import Problem
from largeforge.recipe import extensions, method_extra, model_ref

if TYPE_CHECKING:
    from collections.abc import Iterator

    from largeforge.recipe.schema import Job, Recipe

SCORES = "SEQ_CLS"
"""`TASK_TYPE` (peft's name) of methods whose models score answers, and of evaluators that need one of these."""


def scores(kind: str, name: str) -> bool:
    """Tell whether a method makes, or an evaluator needs, a model that scores instead of writing."""
    return getattr(extensions.load(kind, name), "TASK_TYPE", "") == SCORES


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
    parent = of_job(job.model.ref, recipe)
    if parent is not None and scores("method", parent.method.name) and not makes_scores:
        target = model_ref.parse(job.model.ref).target
        yield Problem(f"{prefix}model.ref", f"job {target} makes a reward model, which scores and does not write.")


def check_expert(key: str, reference: str, recipe: Recipe) -> Iterator[Problem]:
    """Yield why what a reference names cannot answer as an expert of the topology."""
    job = of_job(reference, recipe)
    if job is not None and scores("method", job.method.name):
        rule = f"{reference} is a reward model, which scores and does not write; it is not served as an expert."
        yield Problem(key, rule)


def of_job(reference: str, recipe: Recipe) -> Job | None:
    """Return the job of this recipe that makes the model, if one does."""
    ref = model_ref.parse(reference)
    return recipe.training_jobs.get(ref.target) if ref.scheme == "job" else None
