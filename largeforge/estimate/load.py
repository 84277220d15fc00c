"""A training as one GPU sees it: what its memory and its time are computed from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from largeforge.estimate.footprints import FULL, SFT, AdapterFootprint, MethodFootprint
from largeforge.estimate.sharding import SINGLE, Sharding

if TYPE_CHECKING:
    from largeforge.estimate.shape import Shape


@dataclass(frozen=True)
class TrainingLoad:
    """One training as one GPU sees it."""

    shape: Shape
    method: MethodFootprint = SFT
    adapter: AdapterFootprint = FULL
    sharding: Sharding = SINGLE
    batch: int = 1
    """Rows per GPU and forward pass."""
    length: int = 1024
    """Tokens of a row as padded; with packing all of `max_length`."""
    weights: Literal["fp32", "bf16"] = "bf16"
    """How the model is loaded; the trained weights, their gradients and optimizer states follow it."""
    compute: Literal["fp32", "bf16"] = "bf16"
    """What matrix products are computed in: bf16 with fp32 weights is autocast."""
    optimizer: str = "adamw_torch_fused"
    """Optimizer, as transformers names it."""
    checkpointing: bool = True
    """Whether layers recompute their activations in the backward pass."""
    device: Literal["cuda", "cpu"] = "cuda"
    rows: Literal["equal", "padded", "packed"] = "padded"
    """Whether rows of a batch differ in length, which takes an attention mask of tokens × tokens; `packed`: all
    of them in one row without padding."""
    accumulation: int = 1
    """Forward passes per optimizer step; from two on, gradients outlive the backward pass."""

    @property
    def trained_shape(self) -> Shape:
        """Shape of the model as it is trained; one that scores has no output head over the vocabulary."""
        return replace(self.shape, tied=True) if self.method.logits == "none" else self.shape

    @property
    def head_is_embedding(self) -> bool:
        """Whether the embedding gets gradients from an output head as well."""
        return self.shape.tied and self.method.logits != "none"

    @property
    def sequences(self) -> int:
        """Sequences in the trained forward pass."""
        return self.batch * self.method.sequences_per_row

    @property
    def tokens(self) -> int:
        """Tokens in the trained forward pass."""
        return self.sequences * self.length

    @property
    def casts_adapter(self) -> bool:
        """Whether the adapter is fp32 on a model in bf16, as peft makes it unless the model is quantized."""
        plain = self.adapter.base_weights == "as_precision"
        return not self.adapter.trains_all and plain and self.compute == "bf16"
