"""Share of held-out prompts whose greedy answer equals the reference answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from largeforge.errors import StageError
from largeforge.evaluators._answers import reference_answer
from largeforge.judging.series import Series
from largeforge.recipe.base import Extension

if TYPE_CHECKING:
    from largeforge.recipe.evaluation import Subject

DATA_KINDS = ("sft", "prompt")
METRICS = ("exact_match",)
JUDGES = "answers"
"""It judges answers, whoever gave them: vLLM may generate them, and files may hold them."""


class Config(Extension):
    """Settings of exact match."""

    name: Literal["exact_match"] = "exact_match"
    max_new_tokens: int = Field(default=64, gt=0)
    """Longest answer in tokens."""
    batch_size: int = Field(default=64, gt=0)
    """Prompts generated for at once."""


def run(config: Config, subject: Subject) -> dict[str, Series]:
    """Return `exact_match`; white space around an answer does not count, nor rows without a reference answer."""
    values: list[float | None] = [None] * len(subject.rows)
    expected = {place: text for place, row in enumerate(subject.rows) if (text := reference_answer(row, subject))}
    if not expected:
        raise StageError("exact_match has nothing to compare with: no held-out row has an answer")
    answers = subject.answers(list(expected), max_new_tokens=config.max_new_tokens, batch_size=config.batch_size)
    for (place, wanted), answer in zip(expected.items(), answers, strict=True):
        values[place] = float(answer.strip() == wanted)
        subject.sample(place, "exact_match", expected=wanted, answer=answer.strip(), score=float(values[place] or 0))
    return {"exact_match": Series(values)}
