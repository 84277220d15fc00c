"""Share of held-out pairs whose chosen answer a reward model scores higher.

Equal scores count half. A base that was never trained to score finds all answers equally good, so it has 0.5:
chance, and the mark that `vs_base.reward_accuracy` is measured from. (A head with random weights would
order answers by accident, and differ from seed to seed.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from largeforge.judging.series import Series
from largeforge.recipe.base import Extension

if TYPE_CHECKING:
    from largeforge.recipe.evaluation import Subject

DATA_KINDS = ("preference",)
TASK_TYPE = "SEQ_CLS"
METRICS = ("reward_accuracy",)


class Config(Extension):
    """Settings of reward accuracy."""

    name: Literal["reward_accuracy"] = "reward_accuracy"
    batch_size: int = Field(default=16, gt=0)
    """Pairs per forward pass."""


def run(config: Config, subject: Subject) -> dict[str, Series]:
    """Return `reward_accuracy`."""
    hits: list[float] = []
    for start in range(0, len(subject.rows), config.batch_size):
        batch = subject.rows[start : start + config.batch_size]
        scores = subject.rewards(
            [
                subject.render([*row["prompt"], *row[side]], generation_prompt=False, tools=row.get("tools"))
                for row in batch
                for side in ("chosen", "rejected")
            ]
        )
        for chosen, rejected in zip(scores[::2], scores[1::2], strict=True):
            hits.append(1.0 if chosen > rejected else 0.5 if chosen == rejected else 0.0)
        subject.progress(min(start + config.batch_size, len(subject.rows)), len(subject.rows))
    return {"reward_accuracy": Series(hits)}
