"""Mean reward of the greedy answers to held-out prompts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from largeforge.recipe import rewards
from largeforge.recipe.base import Extension
from largeforge.recipe.sections.rewards import Rewards

if TYPE_CHECKING:
    from largeforge.errors import Problem
    from largeforge.recipe.evaluation import Subject

DATA_KINDS = ("prompt", "sft")
METRICS = ("reward",)


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


def run(config: Config, subject: Subject) -> dict[str, float]:
    """Return `reward`, the mean of the weighted sum, and `reward.<name>`, the mean of each one."""
    means = dict.fromkeys(config.rewards, 0.0)
    total = 0.0
    # Prompts of like length share a batch: less padding, and the answers do not depend on it.
    rows = sorted(subject.rows, key=lambda row: len(str(_asked(row)[0])))
    for start in range(0, len(rows), config.batch_size):
        part = rows[start : start + config.batch_size]
        prompts, answers = zip(*(_asked(row) for row in part), strict=True)
        encoded = [
            subject.render(prompt, generation_prompt=True, tools=row.get("tools"))
            for prompt, row in zip(prompts, part, strict=True)
        ]
        completions = subject.generate(encoded, config.max_new_tokens)
        batch = rewards.Batch(prompts, completions, answers, subject.count_tokens, subject.other_model)
        found = {name: rewards.scores(name, reward, batch) for name, reward in config.rewards.items()}
        sums = rewards.weighted(config.rewards, found)
        means = {name: mean + sum(found[name]) / len(rows) for name, mean in means.items()}
        total += sum(sums) / len(rows)
        for prompt, answer, completion, value in zip(prompts, answers, completions, sums, strict=True):
            asked = str(prompt[-1]["content"])
            subject.sample(prompt=asked, expected=answer, answer=completion.strip(), correct=value > 0)
        subject.progress(min(start + config.batch_size, len(rows)), len(rows))
    return {"reward": total, **{f"reward.{name}": mean for name, mean in means.items()}}


def _asked(row: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """Return the prompt of a row and its right answer."""
    if "prompt" in row:
        return row["prompt"], str(row.get("answer", ""))
    return row["messages"][:-1], str(row["messages"][-1]["content"])
