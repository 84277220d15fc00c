"""Direct preference optimisation (Rafailov et al., arXiv:2305.18290), with trl's DPOTrainer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import Field, field_validator

from largeforge.errors import Problem, nearest
from largeforge.estimate import footprints
from largeforge.methods import _reference
from largeforge.recipe.training import Training, TrainingMethod

if TYPE_CHECKING:
    from largeforge.recipe.base import Extension

DATA_KIND = "preference"
TRL_CONFIG = "trl.trainer.dpo_config:DPOConfig"

Loss = Literal[
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
]  # fmt: skip
LOSSES: tuple[str, ...] = get_args(Loss)


class Config(TrainingMethod):
    """Settings of direct preference optimisation."""

    name: Literal["dpo"] = "dpo"
    learning_rate: float = Field(default=1e-6, gt=0)
    """Peak learning rate."""
    beta: float = Field(default=0.1, gt=0)
    """How strongly the policy is held to the reference model."""
    loss_type: Loss | list[Loss] = "sigmoid"
    """Loss, as trl names it, or several that are added; `sigmoid` is the paper's."""
    loss_weights: list[float] = []
    """Weight of each loss where there are several, such as [0.8, 0.2, 1.0]; empty for 1 each."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Probability that a preference is the wrong way round (`robust`; 0.001 is usual for `exo_pair`)."""
    precompute_ref_log_probs: bool = False
    """Compute the reference model's log-probabilities once, before training: it need not stay in memory."""

    @field_validator("loss_type", mode="before")
    @classmethod
    def _is_known(cls, value: Any) -> Any:
        for name in value if isinstance(value, list) else [value]:
            if name not in LOSSES:
                close = nearest(name, LOSSES) if isinstance(name, str) else ""
                hint = f"; did you mean {close!r}?" if close else ""
                raise ValueError(f"must be one of {', '.join(LOSSES)}, or a list of them{hint}")
        if value == []:
            raise ValueError("must have at least one loss")
        return value

    @property
    def losses(self) -> list[str]:
        """The losses, also where there is one."""
        return list(self.loss_type) if isinstance(self.loss_type, list) else [self.loss_type]


def check(config: Config, adapter: Extension) -> Iterator[Problem]:
    """Yield settings that make no sense together."""
    if config.loss_weights and len(config.loss_weights) != len(config.losses):
        yield Problem("loss_weights", f"must have one weight for each of {len(config.losses)} losses.")
    if "exo_pair" in config.losses and config.label_smoothing == 0:
        yield Problem("label_smoothing", "must be above 0 for the loss exo_pair, such as 0.001 (arXiv:2402.00856).")
    if config.extra.get("padding_free"):
        yield Problem("extra.padding_free", "trl 1.16 has no padding-free DPO; it would pad with a warning.")
    yield from _reference.problems(config, adapter)


def footprint(config: Config) -> footprints.MethodFootprint:
    """Return what a step needs beyond a plain forward and backward pass."""
    return replace(footprints.DPO, reference=not config.precompute_ref_log_probs)


def run(config: Config, training: Training) -> dict[str, float]:
    """Train and return the final metrics."""
    from trl import DPOConfig, DPOTrainer

    arguments = DPOConfig(
        **training.arguments(config),
        max_length=config.max_length,
        beta=config.beta,
        loss_type=config.losses,
        loss_weights=config.loss_weights or None,
        label_smoothing=config.label_smoothing,
        precompute_ref_log_probs=config.precompute_ref_log_probs,
    )

    class Tokenized(DPOTrainer):  # type: ignore[misc]
        """Takes rows that are tokens already: trl would make them again, one by one."""

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    trainer = Tokenized(
        model=training.model,
        ref_model=_reference.model(config, training),
        args=arguments,
        train_dataset=training.tokenized("train"),
        eval_dataset=training.tokenized("heldout"),
        processing_class=training.tokenizer,
        peft_config=training.peft_config,
    )
    return training.fit(trainer)
