"""What a reward function is given, and what all of them have in common.

A reward is one module in `largeforge/rewards/` with a `Config`, `NEEDS_ANSWER`, `check(config)` and
`score(config, batch)`. Method `grpo` learns from rewards; evaluator `reward` judges by them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import Field

from largeforge.errors import Problem, StageError
from largeforge.recipe import extensions
from largeforge.recipe.base import Extension

if TYPE_CHECKING:
    from largeforge.recipe.loaded_model import LoadedModel


class RewardFunction(Extension):
    """Settings that every reward has."""

    weight: float = Field(default=1.0)
    """How much it counts in the sum of all rewards; negative for a penalty."""


@dataclass(frozen=True)
class Batch:
    """Answers of the model to prompts, each with what belongs to it at the same place."""

    prompts: Sequence[list[dict[str, Any]]]
    """Conversations that end before the answer."""
    completions: Sequence[str]
    """What the model answered."""
    answers: Sequence[str]
    """The right answers; empty where a row has none."""
    count_tokens: Callable[[str], int]
    """Returns how many tokens a text has for the model that answers."""
    other_model: Callable[[str], LoadedModel]
    """Returns the model of a reference in a reward's settings."""


def check(rewards: Mapping[str, RewardFunction]) -> Iterator[Problem]:
    """Yield what is wrong with rewards, with keys below the section that has them as `rewards`."""
    if not rewards:
        names = ", ".join(extensions.names("reward"))
        yield Problem("rewards", f"is required: one or more of {names}; in a recipe `- /reward@…rewards: [NAME, …]`.")
    for key, reward in rewards.items():
        for problem in extensions.load("reward", reward.name).check(reward):
            yield replace(problem, key=f"rewards.{key}.{problem.key}")


def scores(name: str, reward: RewardFunction, batch: Batch) -> list[float]:
    """Return what a reward says of each answer.

    Raises StageError when it needs right answers that the rows do not have, or says something that is no number.
    """
    module = extensions.load("reward", reward.name)
    if module.NEEDS_ANSWER and "" in batch.answers:
        prompt = batch.prompts[list(batch.answers).index("")][-1]["content"]
        raise StageError(f"reward {name} compares with the right answer, but a row has none: its prompt is {prompt!r}")
    found = [float(value) for value in module.score(reward, batch)]
    if not all(math.isfinite(value) for value in found):
        wrong = next(index for index, value in enumerate(found) if not math.isfinite(value))
        raise StageError(f"reward {name} is {found[wrong]} for the answer {batch.completions[wrong][:80]!r}")
    return found


def weighted(rewards: Mapping[str, RewardFunction], found: Mapping[str, Sequence[float]]) -> list[float]:
    """Return the weighted sum of the rewards of each answer."""
    rows = zip(*(found[name] for name in rewards), strict=True)
    return [sum(one.weight * value for one, value in zip(rewards.values(), row, strict=True)) for row in rows]
