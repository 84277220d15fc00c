"""Supervised fine-tuning on conversations, with trl's SFTTrainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from largeforge.estimate import footprints
from largeforge.recipe.training import Training, TrainingMethod

if TYPE_CHECKING:
    from collections.abc import Iterable

DATA_KIND = "sft"


class Config(TrainingMethod):
    """Settings of supervised fine-tuning."""

    name: Literal["sft"] = "sft"
    completion_only_loss: bool = True
    """Learn the last assistant message only; false learns every token of the conversation."""
    packing: bool = False
    """Join short rows into full sequences."""


def run(config: Config, training: Training) -> dict[str, float]:
    """Train and return the final metrics."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    arguments = SFTConfig(
        **training.arguments(config),
        max_length=config.max_length,
        packing=config.packing,
        completion_only_loss=config.completion_only_loss,
    )
    trainer = SFTTrainer(
        model=training.model,
        args=arguments,
        train_dataset=Dataset.from_list(list(examples(config, training.rows))),
        processing_class=training.tokenizer,
        peft_config=training.peft_config,
    )
    return training.fit(trainer)


def footprint(config: Config) -> footprints.MethodFootprint:
    """Return what a step needs beyond a plain forward and backward pass."""
    return footprints.SFT


def examples(config: Config, rows: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """Yield rows in the form that trl learns from: prompt and completion, or whole conversations."""
    for row in rows:
        messages = row["messages"]
        if config.completion_only_loss:
            yield {"prompt": messages[:-1], "completion": messages[-1:]}
        else:
            yield {"messages": messages}
