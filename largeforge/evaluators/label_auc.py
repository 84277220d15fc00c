"""Probability that the model likes a wanted answer better than an unwanted one, for rows with labels.

Of all held-out rows, every wanted answer is set against every unwanted one, whatever their prompts: `label_auc` is
the share of these pairs in which the wanted one has the higher log-probability per token given its own prompt,
equal ones counting half. It is the area under the ROC curve of that log-probability as a test for the label:
0.5 means that it says nothing of the label. Prompts whose answers are easier to guess blur it, so
compare it with the base's value rather than with 1.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from largeforge.errors import StageError
from largeforge.recipe.base import Extension

if TYPE_CHECKING:
    from collections.abc import Sequence

    from largeforge.recipe.evaluation import Subject

DATA_KINDS = ("unpaired",)
METRICS = ("label_auc",)


class Config(Extension):
    """Settings of the area under the curve."""

    name: Literal["label_auc"] = "label_auc"
    batch_size: int = Field(default=32, gt=0)
    """Rows per forward pass."""


def run(config: Config, subject: Subject) -> dict[str, float]:
    """Return `label_auc`."""
    means: dict[bool, list[float]] = {True: [], False: []}
    for start in range(0, len(subject.rows), config.batch_size):
        rows = subject.rows[start : start + config.batch_size]
        encoded = [subject.encode(row["prompt"], row["completion"], tools=row.get("tools")) for row in rows]
        scores = subject.log_probabilities(encoded)
        for row, (ids, skip), score in zip(rows, encoded, scores, strict=True):
            means[row["label"]].append(score / max(len(ids) - skip, 1))
        subject.progress(min(start + config.batch_size, len(subject.rows)), len(subject.rows))
    wanted, unwanted = means[True], means[False]
    if not wanted or not unwanted:
        missing = "an unwanted (label false)" if wanted else "a wanted (label true)"
        raise StageError(f"label_auc compares answers of both labels, and no held-out row has {missing} answer")
    return {"label_auc": auc(wanted, unwanted)}


def auc(wanted: Sequence[float], unwanted: Sequence[float]) -> float:
    """Return the share of pairs in which the wanted value is higher, equal ones counting half."""
    ordered = sorted(unwanted)
    better = sum(bisect_left(ordered, value) + bisect_right(ordered, value) for value in wanted)
    return better / (2 * len(wanted) * len(ordered))
