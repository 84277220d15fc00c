"""Supervised fine-tuning on conversations, with trl's SFTTrainer."""

from __future__ import annotations

from typing import Literal

from largeforge.estimate import footprints
from largeforge.recipe.training import Learn, Training, TrainingMethod

DATA_KIND = "sft"


class Config(TrainingMethod):
    """Settings of supervised fine-tuning."""

    name: Literal["sft"] = "sft"
    completion_only_loss: bool = True
    """Learn the last assistant message only; false learns every token of the conversation."""
    packing: bool = False
    """Join short rows into full sequences."""


def footprint(config: Config) -> footprints.MethodFootprint:
    """Return what a step needs beyond a plain forward and backward pass."""
    return footprints.SFT


def run(config: Config, training: Training) -> dict[str, float]:
    """Train and return the final metrics."""
    from trl import SFTConfig, SFTTrainer

    learn: Learn = "completion" if config.completion_only_loss else "all"
    arguments = SFTConfig(
        **training.arguments(config),
        max_length=config.max_length,
        packing=config.packing,
    )
    trainer = SFTTrainer(
        model=training.model,
        args=arguments,
        train_dataset=training.tokenized("train", learn=learn),
        eval_dataset=training.tokenized("heldout", learn=learn),
        processing_class=training.tokenizer,
        peft_config=training.peft_config,
    )
    return training.fit(trainer)
