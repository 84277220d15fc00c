"""Models beside the one that a job starts from: those that its method, rewards and evaluators name in their settings.

Any field annotated with a reference type of `sections/models.py` counts, however deep it stands. A plan takes
from here what a stage reads beside its base; `checks.py`, what must exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from largeforge.recipe import model_ref
from largeforge.recipe.sections.models import Refers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from largeforge.recipe.schema import Job


@dataclass(frozen=True)
class Named:
    """A reference where it stands."""

    key: str
    """Dotted path below the job, for example `method.teacher`."""
    reference: str
    """As written; empty where it was left open."""
    refers: Refers


def of_training(job: Job) -> list[Named]:
    """Return the further models that a job trains with."""
    return [*of_settings("method", job.method), *of_settings("adapter", job.adapter)]


def of_evaluation(job: Job) -> list[Named]:
    """Return the further models that a job is judged with, or beside."""
    return [*of_settings("evaluation", job.evaluation), *of_settings("judging", job.judging)]


def of_settings(key: str, settings: Any) -> list[Named]:
    """Return the models that settings name, whose keys begin with `key`."""
    return list(_below(key, settings))


def of_job(job: Job) -> list[Named]:
    """Return all further models of a job."""
    return [*of_training(job), *of_evaluation(job)]


def parents(job: Job) -> list[str]:
    """Return the jobs of the same recipe that must have trained before this one, each once."""
    texts = [job.model.ref, *(named.reference for named in of_job(job) if named.reference)]
    refs = [model_ref.parse(text) for text in texts]
    return list(dict.fromkeys(ref.target for ref in refs if ref.scheme == "job"))


def _below(key: str, value: Any) -> Iterator[Named]:
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            marks = [mark for mark in field.metadata if isinstance(mark, Refers)]
            inner = getattr(value, name)
            if marks:
                yield Named(f"{key}.{name}", inner, marks[0])
            else:
                yield from _below(f"{key}.{name}", inner)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _below(f"{key}.{name}", inner)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _below(f"{key}.{place}", inner)
