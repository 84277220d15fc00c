"""What may be quantized, and which choices follow each other, found before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from largeforge import processor
from largeforge.errors import Problem, nearest
from largeforge.estimate.decoders import shape
from largeforge.recipe import extensions, method_checks
from largeforge.recipe.model_config import config_of
from largeforge.recipe.quantization import NONE, Quantizer, Target, is_quantized, settings_of

if TYPE_CHECKING:
    from largeforge.estimate.shape import Shape
    from largeforge.hardware import Machine
    from largeforge.recipe.schema import Job, Recipe


def check(prefix: str, job: Job) -> Iterator[Problem]:
    """Yield what is wrong with the quantization of a job, whose keys begin with `prefix`."""
    key, given = f"{prefix}quantization", job.quantization
    if not isinstance(given, Quantizer) or not is_quantized(job):
        return
    if job.adapter.name != "none" and not job.merge:
        yield Problem(key, f"an adapter cannot be quantized: merge it into its base first, {prefix}merge=true.")
    if method_checks.scores("method", job.method.name):
        yield Problem(key, f"{job.method.name} makes a model that scores; only models that write are quantized.")
    if not (job.dataset.heldout_fraction or job.dataset.heldout_path):
        rule = "needs held-out rows to compare on; set dataset.heldout_fraction or dataset.heldout_path."
        yield Problem(key, rule)
    yield from _fallback(f"{key}.fallback", given)


def _fallback(key: str, given: Quantizer) -> Iterator[Problem]:
    names, seen = extensions.names("quantization"), [given.name]
    for index, name in enumerate(given.fallback):
        where = f"{key}.{index}"
        if name not in names:
            rule = f"no such quantization; there is: {', '.join(names)}."
            yield Problem(where, rule, given=repr(name), nearest=nearest(name, names))
        elif name in seen:
            yield Problem(where, "was tried before.", given=repr(name))
        elif NONE in seen:
            yield Problem(where, "is never tried: `none` before it is always accepted.", given=repr(name))
        seen.append(name)


def unservable(recipe: Recipe, machine: Machine, compute_capability: float) -> list[Problem]:
    """Return why vLLM could not serve what the jobs' quantizers make on this hardware."""
    problems: list[Problem] = []
    for name, job in recipe.training_jobs.items():
        if not isinstance(job.quantization, Quantizer) or not is_quantized(job):
            continue
        prefix = f"jobs.{name}." if recipe.jobs else ""
        found, quantized = _shape(job, recipe)
        if quantized:
            rule = f"{job.model.ref} is quantized already ({quantized})."
            problems.append(Problem(f"{prefix}quantization", rule))
        target = Target(
            machine.device, found, compute_capability=compute_capability,
            tensor_parallel_size=recipe.serving.tensor_parallel_size, other_vllm=bool(recipe.serving.python),
            avx512=processor.has_avx512(),
        )  # fmt: skip
        for index, settings in enumerate(settings_of(job.quantization)):
            module = extensions.load("quantization", settings["name"])
            reasons = list(dict.fromkeys(module.unservable(module.Config(**settings), target)))
            key = f"{prefix}quantization" + (f".fallback.{index - 1}" if index else "")
            problems += [Problem(key, f"{reason}.", given=repr(settings["name"])) for reason in reasons]
    return problems


def _shape(job: Job, recipe: Recipe) -> tuple[Shape | None, str]:
    """Return the widths of a job's model, None where they are not known, and how it is quantized already."""
    found = config_of(job.model, recipe)
    if found.fields is None:
        return None, ""
    how: Any = found.fields.get("quantization_config") or {}
    try:
        return shape(found.fields), str(how.get("quant_method", ""))
    except ValueError:
        return None, str(how.get("quant_method", ""))
