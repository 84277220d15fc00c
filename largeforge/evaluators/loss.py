"""Mean cross-entropy of the held-out answers or texts, and the perplexity that it means."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from largeforge.recipe.base import Extension

if TYPE_CHECKING:
    from collections.abc import Iterator

    from largeforge.recipe.evaluation import Subject

DATA_KINDS = ("sft", "text")
METRICS = ("loss", "perplexity")


class Config(Extension):
    """Settings of the held-out loss."""

    name: Literal["loss"] = "loss"
    batch_size: int = Field(default=32, gt=0)
    """Rows per forward pass."""
    completion_only: bool = True
    """Judge the last assistant message only; false judges every token of the conversation. Of text, all is judged."""
    max_length: int = Field(default=1024, gt=1)
    """Longest piece of plain text in tokens: a longer text is judged in pieces, each without the ones before."""


def run(config: Config, subject: Subject) -> dict[str, float]:
    """Return `loss` in nats per token and `perplexity` = exp(loss)."""
    total, count = 0.0, 0
    for start in range(0, len(subject.rows), config.batch_size):
        rows = subject.rows[start : start + config.batch_size]
        batch = [piece for row in rows for piece in _encoded(config, subject, row)]
        total -= sum(subject.log_probabilities(batch))
        count += sum(len(ids) - skip for ids, skip in batch)
        subject.progress(min(start + config.batch_size, len(subject.rows)), len(subject.rows))
    loss = total / max(count, 1)
    return {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}


def _encoded(config: Config, subject: Subject, row: dict[str, Any]) -> Iterator[tuple[list[int], int]]:
    """Yield token ids and how many of them, from the start, are not judged."""
    if "text" in row:
        ids = subject.text_tokens(row["text"])
        yield from ((ids[at : at + config.max_length], 1) for at in range(0, len(ids), config.max_length))
    elif config.completion_only:
        yield subject.encode(row["messages"][:-1], row["messages"][-1:], tools=row.get("tools"))
    else:
        yield subject.render(row["messages"], generation_prompt=False, tools=row.get("tools")), 1
