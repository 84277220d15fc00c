"""Mean cross-entropy of the held-out answers or texts, and the perplexity that it means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from largeforge.judging.series import Series
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


def run(config: Config, subject: Subject) -> dict[str, Series]:
    """Return `loss` in nats per token, and `perplexity` = exp(loss)."""
    losses: list[float | None] = []
    tokens: list[float] = []
    for start in range(0, len(subject.rows), config.batch_size):
        rows = subject.rows[start : start + config.batch_size]
        pieces = [list(_encoded(config, subject, row)) for row in rows]
        found = iter(subject.log_probabilities([piece for own in pieces for piece in own]))
        for own in pieces:
            judged = sum(len(ids) - skip for ids, skip in own)
            total = -sum(next(found) for _ in own)
            losses.append(total / judged if judged else None)
            tokens.append(float(judged))
        subject.progress(min(start + config.batch_size, len(subject.rows)), len(subject.rows))
    return {"loss": Series(losses, tokens), "perplexity": Series(losses, tokens, "exp_mean")}


def _encoded(config: Config, subject: Subject, row: dict[str, Any]) -> Iterator[tuple[list[int], int]]:
    """Yield token ids and how many of them, from the start, are not judged."""
    if "text" in row:
        ids = subject.text_tokens(row["text"])
        yield from ((ids[at : at + config.max_length], 1) for at in range(0, len(ids), config.max_length))
    elif config.completion_only:
        yield subject.encode(row["messages"][:-1], row["messages"][-1:], tools=row.get("tools"))
    else:
        yield subject.render(row["messages"], generation_prompt=False, tools=row.get("tools")), 1
