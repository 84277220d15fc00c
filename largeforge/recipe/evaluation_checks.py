"""What a job is judged by: evaluators that fit its rows and its engine, and gates on what they measure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.errors import Problem, listed, nearest
from largeforge.recipe import extensions
from largeforge.recipe.evaluation import judges, metrics, parse_condition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from largeforge.recipe.schema import Job, Recipe


def check(prefix: str, job: Job, recipe: Recipe) -> Iterator[Problem]:
    """Yield what is wrong with the evaluators and gates of a job, whose keys begin with `prefix`."""
    wanted = extensions.load("method", job.method.name).DATA_KIND
    for key, evaluator in job.evaluation.items():
        place, kinds = f"{prefix}evaluation.{key}", extensions.load("evaluation", evaluator.name).DATA_KINDS
        if key in ("model", "base", *job.judging.baselines) or key.startswith("vs_"):
            rule = "would begin the names of its metrics, and those that do belong to what a model is compared with."
            yield Problem(place, rule)
        if wanted not in kinds and not getattr(evaluator, "path", ""):
            own = "; give it rows of its own with path" if "path" in type(evaluator).model_fields else ""
            rule = f"judges {' and '.join(kinds)} rows, but {job.method.name} has {wanted} rows{own}."
            yield Problem(place, rule)
        yield from _engine(place, key, job, recipe)
    yield from _gates(prefix, job)


def _engine(place: str, key: str, job: Job, recipe: Recipe) -> Iterator[Problem]:
    """Check that what measures a server has one, and that what compares answers has something to compare with."""
    judging, looks_at = job.judging, judges(job.evaluation[key])
    if looks_at == "server" and (
        judging.engine == "transformers" or (judging.engine == "auto" and recipe.hardware.device == "cpu")
    ):
        rule = "measures a model behind vLLM, and this job is judged by transformers: set judging.engine=vllm."
        yield Problem(place, rule)
    if looks_at == "pairs" and not judging.base and not judging.baselines:
        rule = "compares two models: set judging.base=true, or name others in judging.baselines."
        yield Problem(place, rule)


def _gates(prefix: str, job: Job) -> Iterator[Problem]:
    allowed = measured(job)
    for metric, condition in job.gates.items():
        key = f"{prefix}gates.{metric}"
        if metric not in allowed:
            rule = f"no evaluation of this job computes it; there is: {listed(allowed)}."
            yield Problem(key, rule, given=repr(condition), nearest=nearest(metric, allowed))
        try:
            parse_condition(condition)
        except ValueError as error:
            yield Problem(key, f"{error}.", given=repr(condition))


def measured(job: Job) -> list[str]:
    """Return the metrics that a job computes, with their differences from each baseline."""
    alone: list[str] = []
    written: list[str] = []
    pairs: list[str] = []
    for key, evaluator in job.evaluation.items():
        names, looks_at = metrics(key, evaluator), judges(evaluator)
        if looks_at == "pairs":
            pairs += names
            continue
        alone += names
        written += names if looks_at == "answers" else ()
    baselines = {"base": alone} if job.judging.base else {}
    for name, baseline in job.judging.baselines.items():
        baselines[name] = alone if baseline.model else written
    return [*alone, *(f"vs_{name}.{metric}" for name, has in baselines.items() for metric in [*has, *pairs])]
