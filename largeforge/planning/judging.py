"""The stages that judge a model, refuse a bad one, and refuse one that is not served as it was trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.artifacts import file_sha256
from largeforge.plan import Stage
from largeforge.planning.job import outside
from largeforge.recipe import evaluator_files, further_models
from largeforge.recipe.evaluation import answered_by_vllm

if TYPE_CHECKING:
    from largeforge.planning.job import PlannedJob


def evaluate(planned: PlannedJob) -> Stage:
    """Judge on held-out rows, beside baselines."""
    config = {
        "reference": planned.reference, "registry": planned.recipe.registry.model_dump(),
        "evaluation": {name: evaluator.model_dump() for name, evaluator in planned.job.evaluation.items()},
        "judging": planned.job.judging.model_dump(exclude={"gates"}),
        "adapter": planned.job.adapter.model_dump(), "device": planned.machine.device, **planned.template,
    }  # fmt: skip
    if answered_by_vllm(planned.job, planned.machine.device):
        config["serving"] = planned.recipe.serving.model_dump()
    written = {name: Path(one.answers) for name, one in planned.job.judging.baselines.items() if one.answers}
    if written:
        config["written"] = {name: file_sha256(path) if path.is_file() else "" for name, path in written.items()}
    if own := {path: planned.hashes.get(path, "") for path in evaluator_files.of_job(planned.job)}:
        config["own_rows"] = own
    further = further_models.of_evaluation(planned.job)
    inputs = {"data": planned.stage("prepare"), "model": planned.stage("train"), **planned.base}
    inputs |= planned.made_here(further)
    return Stage(
        name=planned.stage("evaluate"), kind="evaluate", job=planned.name, title="judge on held-out rows",
        config=config, inputs=inputs, threads=max(1, planned.machine.cores // len(planned.recipe.training_jobs)),
        uses=f"held-out rows, {_listed(planned.contenders)}", produces=", ".join(planned.job.evaluation),
        models=outside(further), reusable=planned.is_fixed(further),
    )  # fmt: skip


def gate(planned: PlannedJob) -> Stage:
    """Refuse a bad model."""
    gates = ", ".join(f"{metric} {condition}" for metric, condition in planned.job.gates.items())
    return Stage(
        name=planned.stage("gate"), kind="gate", job=planned.name, title="refuse a bad model",
        config={"gates": dict(planned.job.gates), "by": planned.job.judging.gates},
        inputs={"evaluation": planned.stage("evaluate")}, uses=gates, produces="go or no go",
    )  # fmt: skip


def parity(planned: PlannedJob) -> Stage:
    """Compare what would be served with what was trained."""
    job, recipe = planned.job, planned.recipe
    least, most = (">= 0.5", "<= 0.5") if planned.is_quantized else (">= 0.9", "<= 0.1")
    config = {
        "reference": planned.reference, "registry": recipe.registry.model_dump(), "adapter": job.adapter.model_dump(),
        "parity": job.parity.model_dump(), "same_answers": job.parity.same_answers or least,
        "logprob_difference": job.parity.logprob_difference or most, "device": planned.machine.device,
        "serving": recipe.serving.model_dump(), **planned.template,
    }  # fmt: skip
    inputs = {
        "data": planned.stage("prepare"), "trained": planned.stage("train"), "model": planned.stage(planned.made),
        **planned.base,
    }  # fmt: skip
    return Stage(
        name=planned.stage("parity"), kind="parity", job=planned.name, title="serve it as it was trained",
        config=config, inputs=inputs, after=(planned.judged,) if job.evaluation else (), threads=planned.machine.cores,
        uses=f"{job.parity.prompts} prompts, trained model, vLLM", produces="go or no go",
        reusable=planned.is_fixed([]),
    )  # fmt: skip


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
