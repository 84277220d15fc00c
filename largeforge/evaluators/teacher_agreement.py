"""How close a model is to its teacher on held-out answers: divergence, and where both would go on alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from largeforge.judging.series import Series
from largeforge.recipe.base import Extension
from largeforge.recipe.sections.models import Teacher

if TYPE_CHECKING:
    from largeforge.recipe.evaluation import Subject

DATA_KINDS = ("sft",)
METRICS = ("teacher_kl", "teacher_agreement")


class Config(Extension):
    """Settings of the comparison with a teacher."""

    name: Literal["teacher_agreement"] = "teacher_agreement"
    teacher: Teacher = ""
    """Model reference of the teacher; in a recipe `${method.teacher}` is that of the method."""
    batch_size: int = Field(default=16, gt=0)
    """Rows per forward pass."""


def run(config: Config, subject: Subject) -> dict[str, Series]:
    """Return `teacher_kl`, the KL divergence from the teacher in nats per token of the held-out answers, and
    `teacher_agreement`, the share of these tokens at which both models would choose the same one."""
    teacher = subject.other_model(config.teacher)
    divergences: list[float | None] = []
    shares: list[float | None] = []
    counts: list[float] = []
    for start in range(0, len(subject.rows), config.batch_size):
        rows = subject.rows[start : start + config.batch_size]
        batch = [subject.encode(row["messages"][:-1], row["messages"][-1:], tools=row.get("tools")) for row in rows]
        for divergence, agreeing, tokens in subject.compare(teacher, batch):
            divergences.append(divergence / tokens if tokens else None)
            shares.append(agreeing / tokens if tokens else None)
            counts.append(float(tokens))
        subject.progress(min(start + config.batch_size, len(subject.rows)), len(subject.rows))
    return {"teacher_kl": Series(divergences, counts), "teacher_agreement": Series(shares, counts)}
