"""Share of held-out prompts whose greedy answer equals the reference answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from largeforge.recipe.base import Extension

if TYPE_CHECKING:
    from largeforge.recipe.evaluation import Subject

DATA_KIND = "sft"
METRICS = ("exact_match",)


class Config(Extension):
    """Settings of exact match."""

    name: Literal["exact_match"] = "exact_match"
    max_new_tokens: int = Field(default=64, gt=0)
    """Longest answer in tokens."""
    batch_size: int = Field(default=64, gt=0)
    """Prompts generated for at once."""


def run(config: Config, subject: Subject) -> dict[str, float]:
    """Return `exact_match`; white space around an answer does not count."""
    hits = 0
    # Prompts of like length share a batch: less padding, and the answers do not depend on it.
    rows = sorted(subject.rows, key=lambda row: len(str(row["messages"])))
    for start in range(0, len(rows), config.batch_size):
        batch = rows[start : start + config.batch_size]
        answers = subject.generate([row["messages"][:-1] for row in batch], config.max_new_tokens)
        for row, answer in zip(batch, answers, strict=True):
            expected = row["messages"][-1]["content"].strip()
            hits += answer.strip() == expected
            subject.sample(row, answer.strip(), correct=answer.strip() == expected)
        subject.progress(min(start + config.batch_size, len(rows)), len(rows))
    return {"exact_match": hits / max(len(rows), 1)}
