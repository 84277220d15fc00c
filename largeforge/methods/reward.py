"""A reward model that scores answers (Bradley-Terry, as in arXiv:2203.02155), with trl's RewardTrainer."""

from __future__ import annotations

import copy
from typing import Any, Literal

from pydantic import Field

from largeforge.estimate import footprints
from largeforge.recipe.training import Training, TrainingMethod

DATA_KIND = "preference"
TASK_TYPE = "SEQ_CLS"
TRL_CONFIG = "trl.trainer.reward_config:RewardConfig"


class Config(TrainingMethod):
    """Settings of reward modelling."""

    name: Literal["reward"] = "reward"
    learning_rate: float = Field(default=1e-4, gt=0)
    """Peak learning rate."""
    center_rewards_coefficient: float = Field(default=0.0, ge=0)
    """How strongly rewards are drawn to a mean of zero (arXiv:2312.09244, equation 2); 0.01 is usual, 0 is off."""


def footprint(config: Config) -> footprints.MethodFootprint:
    """Return what a step needs beyond a plain forward and backward pass."""
    return footprints.REWARD


def run(config: Config, training: Training) -> dict[str, float]:
    """Train and return the final metrics."""
    from trl import RewardConfig, RewardTrainer

    arguments = RewardConfig(
        **training.arguments(config),
        max_length=config.max_length,
        center_rewards_coefficient=config.center_rewards_coefficient or None,
    )
    trainer = RewardTrainer(
        model=training.model,
        args=arguments,
        train_dataset=training.examples("train"),
        eval_dataset=training.examples("heldout"),
        processing_class=training.tokenizer,
        peft_config=_with_head(training.peft_config),
    )
    return training.fit(trainer)


def _with_head(peft_config: Any) -> Any:
    """Return an adapter that trains and keeps the new head too, as peft does for this type of task."""
    if peft_config is None:
        return None
    peft_config = copy.copy(peft_config)
    peft_config.task_type = TASK_TYPE
    return peft_config
