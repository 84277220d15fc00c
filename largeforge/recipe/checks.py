"""Relations between sections of a recipe, found before anything runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from largeforge.errors import Problem, listed, nearest
from largeforge.recipe import (
    autoscaling_checks,
    environment_checks,
    evaluation_checks,
    further_checks,
    host_checks,
    limit_checks,
    load_checks,
    method_checks,
    model_ref,
    monitoring_checks,
    quantization_checks,
    rollout_checks,
    routing_checks,
    slo_checks,
    task_checks,
)
from largeforge.recipe.quantization import is_quantized

if TYPE_CHECKING:
    from largeforge.recipe.schema import Expert, Job, Model, Recipe, Topology


def check(recipe: Recipe) -> list[Problem]:
    """Return every problem between sections; an empty list when there is none."""
    problems = [*_whole(recipe), *_registered(recipe)]
    single = "main" in recipe.training_jobs and not recipe.jobs
    for name, job in recipe.training_jobs.items():
        prefix = "" if single else f"jobs.{name}."
        problems += [
            *_model(f"{prefix}model", job.model, recipe),
            *evaluation_checks.check(prefix, job, recipe),
            *_job(prefix, name, job, recipe),
            *method_checks.check(prefix, job, recipe),
            *limit_checks.check(prefix, job),
            *quantization_checks.check(prefix, job),
            *further_checks.check(prefix, name, recipe),
        ]
    for name, model in recipe.models.items():
        problems += _model(f"models.{name}", model, recipe)
    if recipe.topology:
        problems += _topology(recipe.topology, recipe)
    problems += [*routing_checks.check(recipe), *load_checks.check(recipe)]
    return [
        *problems, *slo_checks.check(recipe), *monitoring_checks.check(recipe), *rollout_checks.check(recipe),
        *autoscaling_checks.check(recipe),
    ]  # fmt: skip


def _whole(recipe: Recipe) -> Iterator[Problem]:
    if recipe.method and recipe.jobs:
        yield Problem("jobs", "a recipe has either one job at the top level or several under `jobs`, not both.")
    top_level = {"model": recipe.model, "dataset": recipe.dataset, "method": recipe.method}
    missing = [key for key, value in top_level.items() if value is None]
    if missing and len(missing) < len(top_level):
        for key in missing:
            given = ", ".join(k for k in top_level if k not in missing)
            yield Problem(key, f"is required to train (the recipe has {given}); choose one with +{key}=…")
    if not recipe.training_jobs and not recipe.topology and len(missing) == len(top_level):
        yield Problem("recipe", "nothing to do: it has neither a training job nor a topology.")
    if recipe.topology and recipe.router is None:
        yield Problem("router", "is required to serve; choose one with +router=…")
    if recipe.serve and not recipe.topology:
        yield Problem("serve", "needs a topology to serve; choose one with +topology=…")
    yield from host_checks.check(recipe)
    yield from environment_checks.check(recipe)
    for name, tracker in recipe.tracking.items():
        if name != tracker.name:
            yield Problem(f"tracking.{name}", f"is keyed by its name: tracking.{tracker.name}.")
    experts = recipe.topology.experts if recipe.topology else {}
    for index, question in enumerate(recipe.verify.questions):
        if question.expert not in experts:
            rule = f"must be an expert of the topology: {listed(experts)}."
            key = f"verify.questions.{index}.expert"
            yield Problem(key, rule, nearest=nearest(question.expert, experts))


def _registered(recipe: Recipe) -> Iterator[Problem]:
    """Check the names under which jobs register their models."""
    taken: dict[tuple[str, str], str] = {}
    for name, job in recipe.training_jobs.items():
        prefix = f"jobs.{name}." if recipe.jobs else ""
        if re.fullmatch("latest|v?[0-9]+", job.register_alias.lower()):
            yield Problem(
                f"{prefix}register_alias", "an alias is a word; latest and numbers are versions in the registry."
            )
        first = taken.setdefault((job.register_as, job.register_alias), name) if job.register_as else name
        if first != name:
            yield Problem(f"{prefix}register_as", f"job {first} registers under the same name and alias.")


def _model(key: str, model: Model, recipe: Recipe) -> Iterator[Problem]:
    ref = model_ref.parse(model.ref)
    if ref.scheme == "tiny" and model.architecture is None:
        yield Problem(f"{key}.architecture", "is required: a tiny: model is made from it.")
    if ref.scheme == "tiny" and model.tokenizer is None:
        yield Problem(f"{key}.tokenizer", "is required: a tiny: model gets a tokenizer trained on its data.")
    if ref.scheme != "tiny" and model.tokenizer is not None:
        yield Problem(f"{key}.tokenizer", "only a tiny: model gets a new tokenizer.")
    if ref.scheme == "job":
        yield from _job_ref(f"{key}.ref", ref, recipe)


def _job_ref(key: str, ref: model_ref.ModelRef, recipe: Recipe) -> Iterator[Problem]:
    jobs = recipe.training_jobs
    if ref.target not in jobs:
        rule = f"no such job; there is: {listed(jobs)}."
        yield Problem(key, rule, nearest=nearest(ref.target, jobs))
    elif ref.selector == "merge" and not jobs[ref.target].merge:
        yield Problem(key, f"job {ref.target} does not merge its adapter; set merge: true in it.")
    elif ref.selector == "quantize" and not is_quantized(jobs[ref.target]):
        yield Problem(key, f"job {ref.target} does not quantize its model; choose how with quantization=… in it.")


def _job(prefix: str, name: str, job: Job, recipe: Recipe) -> Iterator[Problem]:
    ref = model_ref.parse(job.model.ref)
    circular = ref.scheme == "job" and (ref.target == name or name in further_checks.ancestors(ref.target, recipe))
    if circular:
        yield Problem(f"{prefix}model.ref", f"job {name} would start from itself.")
    if job.merge and job.adapter.name == "none":
        yield Problem(f"{prefix}merge", "there is no adapter to merge; choose one with adapter=lora.")
    if ref.scheme == "job" and ref.selector == "quantize":
        yield Problem(f"{prefix}model.ref", f"a quantized model is not trained on; start from job:{ref.target}.")
    elif ref.scheme == "job" and ref.selector != "merge" and ref.target in recipe.training_jobs and not circular:
        parent = recipe.training_jobs[ref.target]
        if parent.adapter.name != "none":
            rule = f"job {ref.target} makes an adapter, not a model; start from job:{ref.target}/merge."
            yield Problem(f"{prefix}model.ref", rule)
    if job.adapter.name != "none" and ref.scheme == "tiny":
        yield Problem(f"{prefix}adapter", "an adapter on random weights learns nothing; use adapter=none.")


def _topology(topology: Topology, recipe: Recipe) -> Iterator[Problem]:
    experts = topology.experts
    if topology.fallback not in experts:
        rule = f"must be an expert of the topology: {listed(experts)}."
        yield Problem("topology.fallback", rule, nearest=nearest(topology.fallback, experts))
    yield from task_checks.check(topology)
    for name, expert in experts.items():
        yield from _expert(f"topology.experts.{name}", name, expert, topology, recipe)


def _expert(key: str, name: str, expert: Expert, topology: Topology, recipe: Recipe) -> Iterator[Problem]:
    if ":" in expert.model:
        try:
            ref = model_ref.parse(expert.model)
        except ValueError as error:
            yield Problem(f"{key}.model", f"{error}.")
            return
        if ref.scheme == "tiny":
            yield Problem(f"{key}.model", "random weights are not served; train them in a job first.")
        if ref.scheme == "job":
            yield from _job_ref(f"{key}.model", ref, recipe)
            yield from _adapter(key, ref, expert, topology, recipe)
        if expert.task == "generate":
            yield from method_checks.check_expert(f"{key}.model", expert.model, recipe)
    elif expert.model not in recipe.models:
        rule = f"no such model under `models`; there is: {listed(recipe.models)}."
        yield Problem(f"{key}.model", rule, nearest=nearest(expert.model, recipe.models))
    elif expert.task == "generate":
        yield from method_checks.check_expert(f"{key}.model", recipe.models[expert.model].ref, recipe)
    if expert.adapter_on and expert.task != "generate":
        yield Problem(f"{key}.adapter_on", f"an expert whose task is {expert.task} has a server of its own.")
    elif expert.adapter_on:
        base = topology.experts.get(expert.adapter_on)
        if base is None or expert.adapter_on == name:
            others = [other for other in topology.experts if other != name]
            rule = f"must be another expert: {listed(others)}."
            yield Problem(f"{key}.adapter_on", rule, nearest=nearest(expert.adapter_on, others))
        elif base.adapter_on:
            yield Problem(f"{key}.adapter_on", f"expert {expert.adapter_on} is itself an adapter.")


def _adapter(
    key: str, ref: model_ref.ModelRef, expert: Expert, topology: Topology, recipe: Recipe
) -> Iterator[Problem]:
    job = recipe.training_jobs.get(ref.target)
    makes_adapter = job is not None and job.adapter.name != "none" and ref.selector not in ("merge", "quantize")
    if makes_adapter and not expert.adapter_on:
        rule = f"job {ref.target} makes an adapter: name the expert that carries it, or serve job:{ref.target}/merge."
        yield Problem(f"{key}.adapter_on", rule, given="''")
    if makes_adapter and job is not None and job.adapter.name == "dora":
        rule = f"vLLM serves no DoRA adapters; set merge: true in job {ref.target} and serve job:{ref.target}/merge."
        yield Problem(f"{key}.model", rule)
    if job is not None and not makes_adapter and expert.adapter_on:
        yield Problem(f"{key}.adapter_on", f"{ref} is a whole model, not an adapter.")
    carrier = topology.experts.get(expert.adapter_on)
    if makes_adapter and job is not None and carrier is not None:
        trained_on, carried_by = _made_by(job.model.ref), _made_by(carrier.model)
        if trained_on and carried_by and trained_on != carried_by:
            rule = f"the adapter was trained on {job.model.ref}, but {expert.adapter_on} serves {carrier.model}."
            yield Problem(f"{key}.adapter_on", rule)


def _made_by(text: str) -> tuple[str, str] | None:
    """Return job and stage of a `job:` reference, or None for a model that comes from elsewhere."""
    if not text.startswith("job:"):
        return None
    ref = model_ref.parse(text)
    return ref.target, ref.selector or "train"
