"""Odds ratio preference optimisation (Hong et al., arXiv:2403.07691), with trl's experimental ORPOTrainer."""

from __future__ import annotations

import os
from typing import Any, Literal

from pydantic import Field

from largeforge.estimate import footprints
from largeforge.recipe.training import Training, TrainingMethod

DATA_KIND = "preference"
TRL_CONFIG = "trl.experimental.orpo.orpo_config:ORPOConfig"


class Config(TrainingMethod):
    """Settings of odds ratio preference optimisation."""

    name: Literal["orpo"] = "orpo"
    learning_rate: float = Field(default=1e-6, gt=0)
    """Peak learning rate; the paper's is 8e-6."""
    beta: float = Field(default=0.1, gt=0)
    """Weight of the odds ratio beside the likelihood of the chosen answer, lambda in the paper."""


def footprint(config: Config) -> footprints.MethodFootprint:
    """Return what a step needs beyond a plain forward and backward pass."""
    return footprints.ORPO


def run(config: Config, training: Training) -> dict[str, float]:
    """Train and return the final metrics."""
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"  # the version of trl is pinned
    import torch
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    class Trainer(ORPOTrainer):  # type: ignore[misc]
        def _track_num_input_tokens(self, inputs: dict[str, Any]) -> None:
            """Count tokens under the names that batches of this trainer have."""
            whole = {
                name: torch.cat([inputs[f"{side}_{name}"].flatten() for side in ("chosen", "rejected")])
                for name in ("input_ids", "attention_mask")
            }
            super()._track_num_input_tokens(whole)

    arguments = ORPOConfig(
        **training.arguments(config),
        max_length=config.max_length,
        beta=config.beta,
        remove_unused_columns=False,  # trl sets it for its collator, with a warning
    )
    trainer = Trainer(
        model=training.model,
        args=arguments,
        train_dataset=_rendered(training.examples("train"), training.tokenizer),
        eval_dataset=_rendered(training.examples("heldout"), training.tokenizer),
        processing_class=training.tokenizer,
        peft_config=training.peft_config,
    )
    return training.fit(trainer)


def _rendered(examples: Any, tokenizer: Any) -> Any:
    """Return rows as text: this trainer would leave their tools out, and knows no messages that are kept as JSON."""
    from datasets import Features, Value
    from trl import apply_chat_template

    if examples is None:
        return None

    def rendered(row: dict[str, Any]) -> dict[str, str]:
        tools = row.pop("tools", None)
        return dict(apply_chat_template(row, tokenizer, tools=tools))

    texts = Features(dict.fromkeys(("prompt", "chosen", "rejected"), Value("string")))
    return examples.map(rendered, remove_columns=examples.column_names, features=texts)
