"""Kahneman-Tversky optimisation (Ethayarajh et al., arXiv:2402.01306), with trl's KTOTrainer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from largeforge.errors import Problem
from largeforge.estimate import footprints
from largeforge.methods import _reference
from largeforge.recipe.training import Training, TrainingMethod

if TYPE_CHECKING:
    from largeforge.recipe.base import Extension

DATA_KIND = "unpaired"
TRL_CONFIG = "trl.trainer.kto_config:KTOConfig"


class Config(TrainingMethod):
    """Settings of Kahneman-Tversky optimisation."""

    name: Literal["kto"] = "kto"
    learning_rate: float = Field(default=1e-6, gt=0)
    """Peak learning rate."""
    beta: float = Field(default=0.1, gt=0)
    """How strongly the policy is held to the reference model."""
    loss_type: Literal["kto", "apo_zero_unpaired"] = "kto"
    """Loss, as trl names it; `kto` is the paper's, the other one needs no estimate of the divergence."""
    desirable_weight: float = Field(default=1.0, ge=0)
    """Weight of wanted answers; raise it where they are fewer than the others."""
    undesirable_weight: float = Field(default=1.0, ge=0)
    """Weight of unwanted answers."""
    precompute_ref_log_probs: bool = False
    """Compute the reference model's log-probabilities once, before training: it need not stay in memory."""


def check(config: Config, adapter: Extension) -> Iterator[Problem]:
    """Yield settings that make no sense together."""
    estimates = config.loss_type == "kto"
    if estimates and config.per_device_train_batch_size < 2:
        rule = "must be 2 or more: the loss kto compares each prompt with the answer of another row of the batch."
        yield Problem("per_device_train_batch_size", rule)
    if estimates and config.extra.get("train_sampling_strategy", "sequential") != "sequential":
        rule = "must be sequential for the loss kto, which pairs the rows of a batch before training."
        yield Problem("extra.train_sampling_strategy", rule)
    if config.desirable_weight == config.undesirable_weight == 0:
        yield Problem("desirable_weight", "nothing is learnt when both weights are 0.")
    yield from _reference.problems(config, adapter)


def footprint(config: Config) -> footprints.MethodFootprint:
    """Return what a step needs beyond a plain forward and backward pass."""
    return replace(footprints.KTO, reference=not config.precompute_ref_log_probs)


def run(config: Config, training: Training) -> dict[str, float]:
    """Train and return the final metrics."""
    from trl import KTOConfig, KTOTrainer

    arguments = KTOConfig(
        **training.arguments(config),
        max_length=config.max_length,
        beta=config.beta,
        loss_type=config.loss_type,
        desirable_weight=config.desirable_weight,
        undesirable_weight=config.undesirable_weight,
        precompute_ref_log_probs=config.precompute_ref_log_probs,
    )
    trainer = KTOTrainer(
        model=training.model,
        ref_model=_reference.model(config, training),
        args=arguments,
        # trl takes the rows as they come, in every epoch: a file that is sorted by its labels would not be learnt.
        train_dataset=training.examples("train").shuffle(seed=training.seed),
        eval_dataset=training.examples("heldout"),
        processing_class=training.tokenizer,
        peft_config=training.peft_config,
    )
    return training.fit(trainer)
