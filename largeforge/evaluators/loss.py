"""Mean cross-entropy of the held-out answers, and the perplexity that it means."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from largeforge.recipe.base import Extension

if TYPE_CHECKING:
    from largeforge.recipe.evaluation import Subject

DATA_KIND = "sft"
METRICS = ("loss", "perplexity")


class Config(Extension):
    """Settings of the held-out loss."""

    name: Literal["loss"] = "loss"
    batch_size: int = Field(default=32, gt=0)
    """Rows per forward pass."""
    completion_only: bool = True
    """Judge the last assistant message only; false judges every token of the conversation."""


def run(config: Config, subject: Subject) -> dict[str, float]:
    """Return `loss` in nats per token and `perplexity` = exp(loss)."""
    total, count = 0.0, 0
    for start in range(0, len(subject.rows), config.batch_size):
        batch = [_encode(config, subject, row) for row in subject.rows[start : start + config.batch_size]]
        total -= sum(subject.log_probabilities(batch))
        count += sum(len(ids) - skip for ids, skip in batch)
        subject.progress(min(start + config.batch_size, len(subject.rows)), len(subject.rows))
    loss = total / max(count, 1)
    return {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}


def _encode(config: Config, subject: Subject, row: dict[str, Any]) -> tuple[list[int], int]:
    """Return token ids and how many of them, from the start, are not judged."""
    ids = subject.render(row["messages"], generation_prompt=False)
    if not config.completion_only:
        return ids, 1
    prompt = subject.render(row["messages"][:-1], generation_prompt=True)
    return ids, max(len(prompt), 1)
