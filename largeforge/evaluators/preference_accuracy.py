"""Share of held-out pairs whose chosen answer has the higher log-probability."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from largeforge.judging.series import Series
from largeforge.recipe.base import Extension

if TYPE_CHECKING:
    from largeforge.recipe.evaluation import Subject

DATA_KINDS = ("preference",)
METRICS = ("preference_accuracy",)


class Config(Extension):
    """Settings of preference accuracy."""

    name: Literal["preference_accuracy"] = "preference_accuracy"
    batch_size: int = Field(default=16, gt=0)
    """Pairs per forward pass."""


def run(config: Config, subject: Subject) -> dict[str, Series]:
    """Return `preference_accuracy`: log-probabilities are summed over the answer's tokens."""
    hits: list[float] = []
    for start in range(0, len(subject.rows), config.batch_size):
        batch = subject.rows[start : start + config.batch_size]
        scores = subject.log_probabilities(
            [
                subject.encode(row["prompt"], row[side], tools=row.get("tools"))
                for row in batch
                for side in ("chosen", "rejected")
            ]
        )
        hits += [float(chosen > rejected) for chosen, rejected in zip(scores[::2], scores[1::2], strict=True)]
        subject.progress(min(start + config.batch_size, len(subject.rows)), len(subject.rows))
    return {"preference_accuracy": Series(hits)}
