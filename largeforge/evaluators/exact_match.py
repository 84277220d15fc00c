"""Share of held-out prompts whose greedy answer equals the reference answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from largeforge.errors import StageError
from largeforge.recipe.base import Extension

if TYPE_CHECKING:
    from largeforge.recipe.evaluation import Subject

DATA_KINDS = ("sft", "prompt")
METRICS = ("exact_match",)


class Config(Extension):
    """Settings of exact match."""

    name: Literal["exact_match"] = "exact_match"
    max_new_tokens: int = Field(default=64, gt=0)
    """Longest answer in tokens."""
    batch_size: int = Field(default=64, gt=0)
    """Prompts generated for at once."""


def run(config: Config, subject: Subject) -> dict[str, float]:
    """Return `exact_match`; white space around an answer does not count, nor rows without a reference answer."""
    rows = [row for row in subject.rows if row.get("answer", "-").strip()]
    if not rows:
        raise StageError("exact_match has nothing to compare with: no held-out row has an answer")
    # Prompts of like length share a batch: less padding, and the answers do not depend on it.
    rows = sorted(rows, key=lambda row: len(str(row.get("messages") or row["prompt"])))
    hits = 0
    for start in range(0, len(rows), config.batch_size):
        batch = rows[start : start + config.batch_size]
        prompts = [subject.render(_prompt(row), generation_prompt=True, tools=row.get("tools")) for row in batch]
        answers = subject.generate(prompts, config.max_new_tokens)
        for row, answer in zip(batch, answers, strict=True):
            expected = _expected(row, subject).strip()
            is_right = answer.strip() == expected
            hits += is_right
            asked = str(_prompt(row)[-1]["content"])
            subject.sample(prompt=asked, expected=expected, answer=answer.strip(), correct=is_right)
        subject.progress(min(start + config.batch_size, len(rows)), len(rows))
    return {"exact_match": hits / len(rows)}


def _prompt(row: dict[str, Any]) -> list[dict[str, Any]]:
    return list(row["messages"][:-1] if "messages" in row else row["prompt"])


def _expected(row: dict[str, Any], subject: Subject) -> str:
    """Return the reference answer; one that calls tools is what the template makes of the calls."""
    if "messages" not in row:
        return str(row["answer"])
    last = row["messages"][-1]
    if not last.get("tool_calls"):
        return str(last["content"])
    tokens, before = subject.encode(_prompt(row), [last], tools=row.get("tools"))
    return subject.text(tokens[before:])
