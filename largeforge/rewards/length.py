"""1 for an answer whose length is in a range; less the further it is outside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from largeforge.errors import Problem
from largeforge.recipe.rewards import Batch, RewardFunction

NEEDS_ANSWER = False


class Config(RewardFunction):
    """Settings of the length of an answer."""

    name: Literal["length"] = "length"
    unit: Literal["tokens", "words", "characters"] = "tokens"
    """What is counted."""
    minimum: int = Field(default=0, ge=0)
    """Shortest answer with the full reward."""
    maximum: int = Field(default=0, ge=0)
    """Longest answer with the full reward; 0 for no limit."""
    soft: int = Field(default=0, ge=0)
    """How far outside the range the reward falls to 0, in a straight line; 0 for at once."""


def check(config: Config) -> Iterator[Problem]:
    """Yield what is wrong between the settings, with keys below the reward."""
    if not config.minimum and not config.maximum:
        yield Problem("maximum", "is required: a length with neither maximum nor minimum rewards every answer.")
    if 0 < config.maximum < config.minimum:
        yield Problem("maximum", f"is less than minimum = {config.minimum}.")


def score(config: Config, batch: Batch) -> list[float]:
    """Return a number from 0 to 1 for each answer."""
    count = {"tokens": batch.count_tokens, "words": _words, "characters": len}[config.unit]
    return [_in_range(config, count(text)) for text in batch.completions]


def _words(text: str) -> int:
    return len(text.split())


def _in_range(config: Config, length: int) -> float:
    outside = max(config.minimum - length, length - config.maximum if config.maximum else 0, 0)
    if not outside:
        return 1.0
    return max(0.0, 1.0 - outside / (config.soft + 1)) if config.soft else 0.0
