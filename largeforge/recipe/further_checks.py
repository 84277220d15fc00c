"""Check the further models of a job: that each is given, that something makes it, and that it is of the right kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from largeforge.errors import Problem, listed, nearest
from largeforge.recipe import further_models, made_for, method_checks, model_ref

if TYPE_CHECKING:
    from largeforge.recipe.further_models import Named
    from largeforge.recipe.schema import Recipe


def check(prefix: str, name: str, recipe: Recipe) -> Iterator[Problem]:
    """Yield what is wrong with the further models of a job, whose keys begin with `prefix`."""
    job = recipe.training_jobs[name]
    for named in further_models.of_job(job):
        key = f"{prefix}{named.key}"
        if not named.reference and named.refers.may_be_missing:
            continue
        if not named.reference:
            rule = (
                "is required: a model reference, such as job:NAME, registry:NAME@champion, hub:ORG/NAME or path:FOLDER."
            )
            yield Problem(key, rule)
            continue
        ref = model_ref.parse(named.reference)
        if ref.scheme == "job":
            yield from _made_here(key, named, name, recipe)
        elif ref.scheme == "tiny":
            yield Problem(key, "random weights have nothing to say; train them in a job first.")
        elif ref.scheme == "registry" and not ref.is_version and not named.refers.may_be_missing:
            yield from _registered_here(key, ref.target, recipe)
        files = made_for.of_reference(named.reference, recipe.registry)
        if files is not None and named.refers.to != "any" and files.scores != (named.refers.to == "reward"):
            yield Problem(key, f"{named.reference} {made_for.SCORES if files.scores else made_for.NO_REWARD_MODEL}.")


def ancestors(name: str, recipe: Recipe) -> set[str]:
    """Return all jobs that must train before `name`, itself included when it is in a circle."""
    found: set[str] = set()
    queue = [name]
    while queue:
        job = recipe.training_jobs.get(queue.pop())
        new = [parent for parent in further_models.parents(job) if parent not in found] if job else []
        found.update(new)
        queue += new
    return found


def _made_here(key: str, named: Named, name: str, recipe: Recipe) -> Iterator[Problem]:
    ref, jobs = model_ref.parse(named.reference), recipe.training_jobs
    if ref.target not in jobs:
        yield Problem(key, f"no such job; there is: {listed(jobs)}.", nearest=nearest(ref.target, jobs))
        return
    maker = jobs[ref.target]
    if ref.selector == "merge" and not maker.merge:
        yield Problem(key, f"job {ref.target} does not merge its adapter; set merge: true in it.")
    if ref.target == name or name in ancestors(ref.target, recipe):
        yield Problem(key, f"job {ref.target} itself needs what job {name} makes.")
    scores = method_checks.scores("method", maker.method.name)
    if named.refers.to == "reward" and not scores:
        yield Problem(key, f"job {ref.target} makes no reward model: its method is {maker.method.name}, not reward.")
    if named.refers.to == "causal" and scores:
        yield Problem(key, f"job {ref.target} makes a reward model, which scores and does not write.")


def _registered_here(key: str, target: str, recipe: Recipe) -> Iterator[Problem]:
    for name, job in recipe.training_jobs.items():
        if job.register_as == target:
            rule = f"job {name} of this recipe registers it: write job:{name} for what it makes now."
            yield Problem(key, rule)
