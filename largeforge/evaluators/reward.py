"""Mean reward of the greedy answers to held-out prompts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from largeforge.judging.series import Series
from largeforge.recipe import rewards
from largeforge.recipe.base import Extension
from largeforge.recipe.evaluation import asked
from largeforge.recipe.sections.rewards import Rewards

if TYPE_CHECKING:
    from largeforge.errors import Problem
    from largeforge.recipe.evaluation import Subject

DATA_KINDS = ("prompt", "sft")
METRICS = ("reward",)
JUDGES = "answers"
"""It judges answers, whoever gave them: vLLM may generate them, and files may hold them."""


class Config(Extension):
    """Settings of the mean reward."""

    name: Literal["reward"] = "reward"
    rewards: Rewards = {}
    """Rewards by name, chosen from `conf/reward/`; in a recipe `${method.rewards}` are those of the method."""
    max_new_tokens: int = Field(default=256, gt=0)
    """Longest answer in tokens."""
    batch_size: int = Field(default=32, gt=0)
    """Prompts generated for at once."""


def check(config: Config) -> Iterator[Problem]:
    """Yield what is wrong between the settings, with keys below the evaluator."""
    yield from rewards.check(config.rewards)


def run(config: Config, subject: Subject) -> dict[str, Series]:
    """Return `reward`, the mean of the weighted sum, and `reward.<name>`, the mean of each one."""
    places = list(range(len(subject.rows)))
    completions = subject.answers(places, max_new_tokens=config.max_new_tokens, batch_size=config.batch_size)
    found: dict[str, list[float]] = {name: [] for name in config.rewards}
    sums: list[float] = []
    for start in range(0, len(places), config.batch_size):
        part = slice(start, start + config.batch_size)
        rows, given = subject.rows[part], completions[part]
        prompts, wanted = [asked(row) for row in rows], [_right_answer(row) for row in rows]
        batch = rewards.Batch(prompts, given, wanted, subject.count_tokens, subject.other_model)
        scored = {name: rewards.scores(name, reward, batch) for name, reward in config.rewards.items()}
        for name, scores in scored.items():
            found[name] += scores
        sums += rewards.weighted(config.rewards, scored)
    for place, (row, answer, score) in enumerate(zip(subject.rows, completions, sums, strict=True)):
        subject.sample(place, "reward", expected=_right_answer(row), answer=answer.strip(), score=score)
    return {"reward": Series(sums), **{f"reward.{name}": Series(scores) for name, scores in found.items()}}


def _right_answer(row: dict[str, Any]) -> str:
    return str(row.get("answer", "") if "prompt" in row else row["messages"][-1]["content"])
