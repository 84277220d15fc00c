"""What all training methods share: trl's own settings, and what a method is given to train with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import Field

from largeforge.recipe.base import Extension

if TYPE_CHECKING:
    from pathlib import Path


class TrainingMethod(Extension):
    """Settings of a trl trainer, under trl's names; defaults are trl's unless the field says otherwise."""

    learning_rate: float = Field(default=2e-5, gt=0)
    """Peak learning rate."""
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "linear"
    """Shape of the learning rate over the steps."""
    warmup_steps: float = Field(default=0, ge=0)
    """Steps of linear warm-up; below 1 it is a share of all steps."""
    num_train_epochs: float = Field(default=3.0, gt=0)
    """Passes over the data, unless `max_steps` is set."""
    max_steps: int = -1
    """Optimizer steps in all; -1 means by epochs."""
    per_device_train_batch_size: int = Field(default=8, gt=0)
    """Rows per device and forward pass."""
    gradient_accumulation_steps: int = Field(default=1, gt=0)
    """Forward passes per optimizer step."""
    max_length: int = Field(default=1024, gt=0)
    """Longest row in tokens; a longer one is an error, never cut silently."""
    optim: str = "adamw_torch_fused"
    """Optimizer, as transformers names it."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay of AdamW (arXiv:1711.05101)."""
    max_grad_norm: float = Field(default=1.0, ge=0)
    """Gradient norm above which gradients are scaled down."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """`auto` is bf16 on a GPU and fp32 on a CPU."""
    gradient_checkpointing: Literal["auto", "on", "off"] = "auto"
    """Recompute activations to save memory; `auto` is on for a GPU and off for a CPU."""
    logging_steps: int = Field(default=10, gt=0)
    """Steps between two reports of the loss."""
    save_steps: int = Field(default=500, gt=0)
    """Steps between two checkpoints."""
    save_total_limit: int = Field(default=2, gt=1)
    """Checkpoints kept; at least two, so that a damaged one has one before it."""


class Training(Protocol):
    """What the train stage hands to a method."""

    model: Any
    """Loaded transformers model."""
    tokenizer: Any
    peft_config: Any
    """peft configuration of the adapter, or None to train all weights."""
    rows: list[dict[str, Any]]
    """Normalised training rows (`messages`, or `prompt`/`chosen`/`rejected`)."""
    checkpoints: Path

    def arguments(self, config: TrainingMethod) -> dict[str, Any]:
        """Return the keyword arguments that every trl config takes, for this device."""

    def fit(self, trainer: Any) -> dict[str, float]:
        """Train with checkpoints, resume and events; return the final metrics."""
