"""What a tracker is told of a run, and what it must be able to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Value = str | int | float | bool
Ending = Literal["finished", "failed", "interrupted"]


@dataclass(frozen=True)
class About:
    """A run as trackers know it; no secrets, no paths of this machine."""

    run: str
    """Name of the run's directory."""
    recipe: str
    description: str
    lock: str
    """Digest of the run's lock."""
    params: Mapping[str, Value]
    """The resolved recipe, one level deep: `method.learning_rate` to its value."""
    trainings: Mapping[str, str]
    """Training stage to its job."""
    started: float = 0.0
    """When the run began, in seconds since the epoch."""

    def params_of(self, stage: str) -> dict[str, Value]:
        """Return the parameters of one training; those of all trainings where a recipe has one job."""
        job = self.trainings.get(stage, "")
        prefix = f"jobs.{job}."
        own = {key.removeprefix(prefix): value for key, value in self.params.items() if key.startswith(prefix)}
        return own or {key: value for key, value in self.params.items() if not key.startswith("jobs.")}


@dataclass(frozen=True)
class Point:
    """Figures of a training at a step."""

    stage: str
    step: int
    time: float
    values: dict[str, float]


@dataclass(frozen=True)
class Sample:
    """An answer that was generated during a training."""

    stage: str
    step: int
    time: float
    prompt: str
    text: str
    reference: str


@dataclass(frozen=True)
class Summary:
    """Figures of a training that has ended, or of the judgement of its model; they have no step."""

    stage: str
    time: float
    values: dict[str, float]


@dataclass(frozen=True)
class Begun:
    """A training has begun, or goes on."""

    stage: str
    time: float


@dataclass(frozen=True)
class Ended:
    """A training has ended, or with an empty `stage` the whole run."""

    stage: str
    time: float
    how: Ending


Record = Point | Sample | Summary | Begun | Ended


@dataclass(frozen=True)
class File:
    """A file to keep with a training, or with an empty `stage` with the whole run."""

    stage: str
    path: Path


@dataclass(frozen=True)
class Place:
    """What a tracker may use on this machine."""

    folder: Path
    """Folder for files of its own; it survives."""
    registry: dict[str, Any] = field(default_factory=dict)
    """The recipe's `registry` section."""


class Tracker(Protocol):
    """A connection to where runs are tracked.

    Writing the same records again must change nothing: after a crash they come again. Each method
    raises TrackingError for what can be tried again later, such as a server that does not answer.
    """

    durable: bool
    """Whether records are safe when `write` returns; else they are when `close` returns."""

    def write(self, records: Sequence[Record]) -> None:
        """Write records in their order."""

    def close(self, files: Sequence[File]) -> None:
        """Write what is left, and the files."""
