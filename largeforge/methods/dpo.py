"""Direct preference optimisation (Rafailov et al., arXiv:2305.18290), with trl's DPOTrainer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from largeforge.estimate import footprints
from largeforge.recipe.training import Training, TrainingMethod

DATA_KIND = "preference"


class Config(TrainingMethod):
    """Settings of direct preference optimisation."""

    name: Literal["dpo"] = "dpo"
    learning_rate: float = Field(default=1e-6, gt=0)
    """Peak learning rate."""
    beta: float = Field(default=0.1, gt=0)
    """How strongly the policy is held to the reference model."""
    loss_type: Literal["sigmoid", "hinge", "ipo", "robust"] = "sigmoid"
    """Loss, as trl names it; `sigmoid` is the paper's."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Probability that a preference is the wrong way round (`robust` and `sigmoid`)."""


def footprint(config: Config) -> footprints.MethodFootprint:
    """Return what a step needs beyond a plain forward and backward pass."""
    return footprints.DPO


def run(config: Config, training: Training) -> dict[str, float]:
    """Train and return the final metrics."""
    from trl import DPOConfig, DPOTrainer

    arguments = DPOConfig(
        **training.arguments(config),
        max_length=config.max_length,
        beta=config.beta,
        loss_type=[config.loss_type],
        label_smoothing=config.label_smoothing,
    )
    trainer = DPOTrainer(
        model=training.model,
        args=arguments,
        train_dataset=training.examples("train"),
        eval_dataset=training.examples("heldout"),
        processing_class=training.tokenizer,
        peft_config=training.peft_config,
    )
    return training.fit(trainer)
