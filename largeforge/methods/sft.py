"""Supervised fine-tuning on conversations, with trl's SFTTrainer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from largeforge.errors import Problem
from largeforge.estimate import footprints
from largeforge.recipe.training import Learn, Training, TrainingMethod

if TYPE_CHECKING:
    from largeforge.recipe.base import Extension

DATA_KIND = "sft"
TRL_CONFIG = "trl.trainer.sft_config:SFTConfig"


class Config(TrainingMethod):
    """Settings of supervised fine-tuning."""

    name: Literal["sft"] = "sft"
    completion_only_loss: bool = True
    """Learn the last assistant message only; false learns every token of the conversation."""
    assistant_only_loss: bool = False
    """Learn every assistant message, and nothing else, whatever `completion_only_loss` says."""
    packing: bool = False
    """Join short rows into full sequences of `max_length` tokens."""
    packing_strategy: Literal["bfd", "bfd_split", "wrapped"] = "bfd"
    """How rows are joined; `bfd` keeps rows whole (arXiv:2404.10830), the others cut rows that are too long."""
    padding_free: bool = False
    """Put the rows of a batch in one line instead of padding them; packing does so anyway."""
    loss_type: Literal["nll", "dft"] = "nll"
    """`nll` is the negative log-likelihood, `dft` dynamic fine-tuning (arXiv:2508.05629)."""


def check(config: Config, adapter: Extension) -> Iterator[Problem]:
    """Yield settings that make no sense together."""
    if config.padding_free and config.packing and config.packing_strategy == "wrapped":
        rule = "with packing_strategy wrapped, sequences are full already; leave it off, or use bfd."
        yield Problem("padding_free", rule)


def footprint(config: Config) -> footprints.MethodFootprint:
    """Return what a step needs beyond a plain forward and backward pass."""
    return footprints.SFT


def run(config: Config, training: Training) -> dict[str, float]:
    """Train and return the final metrics."""
    from trl import SFTConfig, SFTTrainer

    arguments = SFTConfig(
        **training.arguments(config),
        # Rows were measured before, and none is longer: trl would go through all of them again, one by one.
        max_length=config.max_length if config.packing else None,
        packing=config.packing,
        packing_strategy=config.packing_strategy,
        padding_free=config.padding_free,
        loss_type=config.loss_type,
    )
    trainer = SFTTrainer(
        model=training.model,
        args=arguments,
        train_dataset=training.tokenized("train", learn=_learn(config)),
        eval_dataset=training.tokenized("heldout", learn=_learn(config)),
        processing_class=training.tokenizer,
        peft_config=training.peft_config,
    )
    return training.fit(trainer)


def _learn(config: Config) -> Learn:
    if config.assistant_only_loss:
        return "assistant"
    return "completion" if config.completion_only_loss else "all"
