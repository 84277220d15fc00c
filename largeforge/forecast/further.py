"""What the further models of a job cost: a teacher, reward models; and what generating while training adds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from largeforge.estimate.memory import Memory, bytes_per_value
from largeforge.recipe import extensions, further_models

if TYPE_CHECKING:
    from largeforge.estimate.footprints import MethodFootprint
    from largeforge.estimate.schedule import RowLengths
    from largeforge.estimate.shape import Shape
    from largeforge.forecast.models import Models
    from largeforge.recipe.further_models import Named
    from largeforge.recipe.schema import Job

ROUNDED_UP = 1024
"""Outputs by which models with the same tokens may differ: makers round the size of the vocabulary up."""


@dataclass(frozen=True)
class Further:
    """The shapes of further models, as far as they are known."""

    teacher: Shape | None = None
    """The model whose next tokens are learned."""
    others: tuple[Shape, ...] = ()
    notes: tuple[str, ...] = ()
    """Why some are not known."""


NONE = Further()


def of_training(job: Job, models: Models) -> Further:
    """Return the further models that a job trains with."""
    return _found(further_models.of_training(job), models)


def of_evaluation(job: Job, models: Models) -> Further:
    """Return the further models that a job is judged with."""
    return _found(further_models.of_evaluation(job), models)


def footprint(job: Job, further: Further, precision: str) -> MethodFootprint:
    """Return what a job's method costs in memory, with its further models."""
    found: MethodFootprint = extensions.load("method", job.method.name).footprint(job.method)
    given = getattr(job.method, "teacher_precision", "auto")
    weights: Any = precision if given == "auto" else given
    return replace(found, teacher=further.teacher, teacher_weights=weights, others=further.others)


def beside(memory: Memory, further: Further, weights: str) -> Memory:
    """Return the memory of judging with the further models loaded, too."""
    shapes = [*further.others, *([further.teacher] if further.teacher else [])]
    size = sum(shape.parameters for shape in shapes) * bytes_per_value(weights)
    return Memory(
        {name: {**parts, "reference": parts.get("reference", 0.0) + size} for name, parts in memory.phases.items()}
    )


def refusal(job: Job, shape: Shape, further: Further, *, processes: int) -> str:
    """Return why a job's method cannot work with these models and so many processes; empty when it can."""
    teacher = further.teacher
    if teacher and abs(teacher.vocab_size - shape.vocab_size) > ROUNDED_UP:
        return (
            f"method.teacher has {teacher.vocab_size} tokens and the student {shape.vocab_size}: their probabilities "
            "can only be compared token by token; distil within a family of models"
        )
    own = getattr(extensions.load("method", job.method.name), "refusal", None)
    return str(own(job.method, processes=processes)) if own else ""


def answered(lengths: RowLengths, found: MethodFootprint) -> RowLengths:
    """Return the lengths of rows together with the answers that are generated, each as long as it may be."""
    if not found.completion_length:
        return lengths
    more = found.completion_length
    return type(lengths)(lengths.mean + more, lengths.p50 + more, lengths.p95 + more, lengths.max + more)


def _found(named: list[Named], models: Models) -> Further:
    known = {one: models.of(one.reference) for one in named if one.reference}
    shapes = {one: found.shape for one, found in known.items() if found.shape is not None}
    teachers = [shape for one, shape in shapes.items() if one.refers.same_vocabulary]
    others = tuple(shape for one, shape in shapes.items() if not one.refers.same_vocabulary)
    notes = [f"{one.key} is not counted: {found.note}" for one, found in known.items() if found.shape is None]
    return Further(teachers[0] if teachers else None, others, tuple(notes))
