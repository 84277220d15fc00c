"""The stages that make a judged model ready to be served: merged, quantized, registered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.environments.spec import named
from largeforge.plan import Stage
from largeforge.planning.job import stage_name
from largeforge.recipe import extensions
from largeforge.recipe.quantization import Quantizer, settings_of

if TYPE_CHECKING:
    from largeforge.planning.job import PlannedJob


def merge(planned: PlannedJob) -> Stage:
    """Merge the adapter into its base."""
    after = (planned.judged,) if planned.job.evaluation else ()
    return Stage(
        name=planned.stage("merge"), kind="merge", job=planned.name, title="merge the adapter into its base",
        config={"reference": planned.reference, "registry": planned.recipe.registry.model_dump()},
        inputs={"adapter": planned.stage("train"), **planned.base}, after=after, threads=1, uses="adapter and base",
        produces="merged model", reusable=planned.ref.scheme != "registry",
    )  # fmt: skip


def quantize(planned: PlannedJob) -> Stage:
    """Quantize, if it proves worth it."""
    given, recipe = planned.job.quantization, planned.recipe
    assert isinstance(given, Quantizer)
    choices = settings_of(given)
    needed = dict.fromkeys(extensions.load("quantization", choice["name"]).ENVIRONMENT for choice in choices)
    config = {
        "choices": choices, "environments": {name: list(named(name).requirements) for name in needed if name},
        "calibration_rows": given.calibration_rows, "calibration_length": given.calibration_length,
        "acceptance": given.acceptance.model_dump(), "serving": recipe.serving.model_dump(),
        "device": planned.machine.device, "machine": planned.machine.gpu or "CPU", "seed": recipe.seed,
        **planned.template,
    }  # fmt: skip
    names = [choice["name"] for choice in choices]
    return Stage(
        name=planned.stage("quantize"), kind="quantize", job=planned.name, title="quantize if it proves worth it",
        config=config, inputs={"model": planned.stage("merge" if planned.job.merge else "train"),
                               "data": planned.stage("prepare")},
        after=(planned.judged,) if planned.job.evaluation else (), threads=planned.machine.cores,
        uses=f"whole model, train and held-out rows, vLLM; tries {', then '.join(names)}",
        produces="quantized model",
    )  # fmt: skip


def register(planned: PlannedJob) -> Stage:
    """Enter the model in the registry."""
    job, recipe = planned.job, planned.recipe
    config = {
        "name": job.register_as, "alias": job.register_alias, "registry": recipe.registry.model_dump(),
        "recipe": recipe.name, "recipe_digest": planned.recipe_digest,
        "parent": "" if planned.ref.scheme == "tiny" else job.model.ref,
    }  # fmt: skip
    inputs = {"model": planned.stage(planned.made), "data": planned.stage("prepare")}
    if planned.compares:
        inputs["parity"] = planned.stage("parity")
    if job.evaluation:
        inputs["evaluation"] = planned.judged
    if planned.ref.scheme == "job" and recipe.training_jobs[planned.ref.target].register_as:
        inputs["parent"] = stage_name(recipe, planned.ref.target, "register")
    return Stage(
        name=planned.stage("register"), kind="register", job=planned.name, title="enter the model in the registry",
        config=config, inputs=inputs, threads=1, uses=recipe.registry.uri, reusable=False,
        produces=f"registry:{job.register_as}@{job.register_alias}",
    )  # fmt: skip
