"""Continued pretraining on plain text, with trl's SFTTrainer: every token is learnt."""

from __future__ import annotations

from typing import Literal

from largeforge.estimate import footprints
from largeforge.recipe.training import Training, TrainingMethod

DATA_KIND = "text"
TRL_CONFIG = "trl.trainer.sft_config:SFTConfig"


class Config(TrainingMethod):
    """Settings of continued pretraining."""

    name: Literal["pretrain"] = "pretrain"
    packing: bool = True
    """Join texts into full sequences of `max_length` tokens."""
    packing_strategy: Literal["bfd_split", "wrapped"] = "bfd_split"
    """`bfd_split` keeps texts whole where they fit and cuts longer ones (arXiv:2404.10830); `wrapped` cuts anywhere."""


def footprint(config: Config) -> footprints.MethodFootprint:
    """Return what a step needs beyond a plain forward and backward pass."""
    return footprints.PRETRAIN


def run(config: Config, training: Training) -> dict[str, float]:
    """Train and return the final metrics."""
    from trl import SFTConfig, SFTTrainer

    arguments = SFTConfig(
        **training.arguments(config),
        max_length=config.max_length if config.packing else None,  # without packing, rows were measured before
        packing=config.packing,
        packing_strategy=config.packing_strategy,
    )
    trainer = SFTTrainer(
        model=training.model,
        args=arguments,
        train_dataset=training.tokenized("train", learn="all"),
        eval_dataset=training.tokenized("heldout", learn="all"),
        processing_class=training.tokenizer,
        peft_config=training.peft_config,
    )
    return training.fit(trainer)
