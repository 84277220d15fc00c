"""What all training methods share: trl's own settings, and what a method is given to train with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import Field

from largeforge.recipe.base import Extension

if TYPE_CHECKING:
    from largeforge.recipe.loaded_model import LoadedModel


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
    train_batch_size: int = Field(default=0, ge=0)
    """Rows per optimizer step over all processes; the plan then finds the largest `per_device_train_batch_size` that
    fits into memory and accumulates the rest. 0 means as the two settings above say."""
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
    """Checkpoints kept besides the best one; at least two, so that a damaged one has one before it."""
    max_hours: float = Field(default=0, ge=0)
    """Hours after which training stops, saves and counts as finished, earlier attempts included; 0 for no limit."""
    eval_steps: int = Field(default=0, ge=0)
    """Steps between two evaluations on the held-out rows during training; 0 for none."""
    load_best_model_at_end: bool = False
    """Keep the model of the evaluation with the best `metric_for_best_model` instead of the last one."""
    metric_for_best_model: str = "loss"
    """Metric of an evaluation during training that says which checkpoint is best, such as `loss`."""
    greater_is_better: bool = False
    """Whether more of that metric is better."""
    early_stopping_patience: int = Field(default=0, ge=0)
    """Evaluations without improvement after which training stops; 0 for never."""
    early_stopping_threshold: float = Field(default=0.0, ge=0)
    """How much the metric must improve to count."""
    sample_steps: int = Field(default=0, ge=0)
    """Steps between two rounds of answers to held-out prompts, for people to read; 0 for none."""
    num_samples: int = Field(default=4, gt=0)
    """Held-out prompts that are answered in such a round."""
    sample_tokens: int = Field(default=64, gt=0)
    """Longest such answer in tokens."""
    attn_implementation: Literal["auto", "eager", "sdpa", "flash_attention_2", "flash_attention_3"] = "auto"
    """Attention kernels, as transformers names them; `auto` is the best that is installed and safe."""
    use_liger_kernel: bool = False
    """Fused kernels of the liger-kernel package (GPU only)."""
    torch_compile: bool = False
    """Compile the model with torch's inductor: faster steps after minutes of compiling."""
    extra: dict[str, Any] = {}
    """Further fields of trl's config of this method, checked against trl itself before the run."""


Split = Literal["train", "heldout"]
Learn = Literal["completion", "assistant", "all"]
"""Tokens that count in the loss: the last assistant message, every assistant message, or all."""


class Training(Protocol):
    """What the train stage hands to a method."""

    model: Any
    """Loaded transformers model."""
    tokenizer: Any
    peft_config: Any
    """peft configuration of the adapter, or None to train all weights."""
    device: str
    """`cpu` or `cuda`."""
    seed: int
    world_size: int
    """Processes that train together."""

    def arguments(self, config: TrainingMethod) -> dict[str, Any]:
        """Return the keyword arguments that every trl config takes, for this device."""

    def tokenized(self, split: Split, *, learn: Learn = "completion") -> Any:
        """Return rows as a `datasets.Dataset` of `input_ids` and `labels`; None for held-out rows not wanted."""

    def examples(self, split: Split) -> Any:
        """Return rows as a `datasets.Dataset` in trl's columns of their kind; None for held-out rows not wanted."""

    def other_model(self, reference: str, *, precision: str = "auto") -> LoadedModel:
        """Return a further model, frozen; its field in the method's `Config` has a type of `sections/models.py`."""

    def fit(self, trainer: Any) -> dict[str, float]:
        """Train with checkpoints, resume and events; return the final metrics."""
