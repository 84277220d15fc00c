"""Probability that the model likes a wanted answer better than an unwanted one, for rows with labels.

Of all held-out rows, every wanted answer is set against every unwanted one, whatever their prompts: `label_auc` is
the share of these pairs in which the wanted one has the higher log-probability per token given its own prompt,
equal ones counting half. It is the area under the ROC curve of that log-probability as a test for the label:
0.5 means that it says nothing of the label. Prompts whose answers are easier to guess blur it, so
compare it with the base's value rather than with 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from largeforge.errors import StageError
from largeforge.judging.series import Series
from largeforge.recipe.base import Extension

if TYPE_CHECKING:
    from largeforge.recipe.evaluation import Subject

DATA_KINDS = ("unpaired",)
METRICS = ("label_auc",)


class Config(Extension):
    """Settings of the area under the curve."""

    name: Literal["label_auc"] = "label_auc"
    batch_size: int = Field(default=32, gt=0)
    """Rows per forward pass."""


def run(config: Config, subject: Subject) -> dict[str, Series]:
    """Return `label_auc`."""
    scores: list[float] = []
    for start in range(0, len(subject.rows), config.batch_size):
        rows = subject.rows[start : start + config.batch_size]
        encoded = [subject.encode(row["prompt"], row["completion"], tools=row.get("tools")) for row in rows]
        found = subject.log_probabilities(encoded)
        scores += [score / max(len(ids) - skip, 1) for (ids, skip), score in zip(encoded, found, strict=True)]
        subject.progress(min(start + config.batch_size, len(subject.rows)), len(subject.rows))
    labels = [float(row["label"]) for row in subject.rows]
    if len(set(labels)) < 2:
        missing = "an unwanted (label false)" if any(labels) else "a wanted (label true)"
        raise StageError(f"label_auc compares answers of both labels, and no held-out row has {missing} answer")
    return {"label_auc": Series(scores, labels, "auc")}
