"""The whole plan of a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import largeforge
from largeforge import identity
from largeforge.artifacts import digest
from largeforge.errors import RecipeError
from largeforge.forecast import batches
from largeforge.hardware import machine
from largeforge.plan import Plan, Stage
from largeforge.planning import judging, release, serving, training
from largeforge.planning.job import PlannedJob
from largeforge.recipe import data_paths, further_models, profiles, quantization_checks, routing_files
from largeforge.recipe.lock import dataset_hashes, lock

if TYPE_CHECKING:
    from largeforge.recipe.schema import Recipe

_NOT_IN_RESULT = {"judged"}
"""Keys of a stage's config that decide whether it is content, and not what it makes."""


def make_plan(recipe: Recipe, *, recipe_folder: str = "", packs: dict[str, Any] | None = None) -> Plan:
    """Return the plan of a validated recipe; `packs` are those that it was composed from, for the lock."""
    known = profiles.completed(recipe.hardware)
    found, hashes = machine(known), dataset_hashes(recipe)
    if problems := quantization_checks.unservable(recipe, found, known.compute_capability):
        raise RecipeError(problems)
    recipe = batches.divided(recipe, found)
    fixed, floating = identity.of_models(recipe)
    locked = lock(
        recipe, found, recipe_folder=recipe_folder, hashes=hashes, models=fixed, resolved=floating, packs=packs
    )
    recipe_digest, depths = digest(locked["recipe"]), _depths(recipe)
    stages: list[Stage] = []
    for name, depth in depths.items():
        beside = list(depths.values()).count(depth)
        job = PlannedJob(
            name, recipe, found,
            recipe_digest=recipe_digest, recipe_folder=recipe_folder, hashes=hashes, beside=beside,
        )  # fmt: skip
        stages += _stages(job)
    if recipe.topology is not None and not recipe.sweep.trial:
        if routing_files.named(recipe.routing):
            stages.append(serving.route(recipe, found, hashes))
        stages.append(serving.serve(recipe, found, stages))
    contents = {reference: model["sha256"] for reference, model in fixed.items()}
    pinned = dict(line.split("==") for line in recipe.environment.requirements)
    packages = {**locked["packages"], **pinned}
    return Plan(recipe, _fingerprinted(stages, hashes, contents, packages), locked, found)


def _stages(job: PlannedJob) -> list[Stage]:
    """Return the stages of a job in their order."""
    stages = [training.prepare(job)]
    if job.ref.scheme == "tiny":
        stages.append(training.init(job))
    stages.append(training.train(job))
    if job.job.evaluation:
        stages.append(judging.evaluate(job))
    if job.job.gates:
        stages.append(judging.gate(job))
    if job.job.merge:
        stages.append(release.merge(job))
    if job.is_quantized:
        stages.append(release.quantize(job))
    if job.compares:
        stages.append(judging.parity(job))
    if job.job.register_as and not job.recipe.sweep.trial:
        stages.append(release.register(job))
    return stages


def _depths(recipe: Recipe) -> dict[str, int]:
    """Return, for each job, how many jobs it builds on at most one after the other; it stands after all of them."""
    parents = {name: further_models.parents(job) for name, job in recipe.training_jobs.items()}
    depths: dict[str, int] = {}
    for first in parents:
        chain = [first]
        while chain:
            waiting = [parent for parent in parents[chain[-1]] if parent not in depths]
            if waiting:
                chain.append(waiting[0])
            else:
                name = chain.pop()
                depths[name] = 1 + max((depths[parent] for parent in parents[name]), default=-1)
    return depths


def _fingerprinted(
    stages: list[Stage], hashes: dict[str, str], models: dict[str, str], packages: dict[str, str]
) -> tuple[Stage, ...]:
    """Return the stages with their fingerprints, each built on those of its inputs; both dicts hold sha256."""
    done: dict[str, Stage] = {}
    for stage in stages:
        covered: dict[str, Any] = {
            "largeforge": largeforge.__version__,
            "kind": stage.kind,
            "config": {key: value for key, value in stage.config.items() if key not in _NOT_IN_RESULT},
            "threads": stage.threads,
            "inputs": {name: done[source].fingerprint for name, source in stage.inputs.items()},
        }
        if stage.kind == "prepare":
            covered["data"] = [hashes.get(path, "") for path in data_paths.named(stage.config["dataset"]).values()]
        else:
            covered["packages"] = packages
        if stage.config.get("reference") in models:
            covered["model"] = models[stage.config["reference"]]
        if further := {reference: models[reference] for reference in stage.models if reference in models}:
            covered["models"] = further
        done[stage.name] = Stage(**{**_fields(stage), "fingerprint": digest(covered)})
    return tuple(done.values())


def _fields(stage: Stage) -> dict[str, Any]:
    return {name: getattr(stage, name) for name in Stage.__dataclass_fields__}
