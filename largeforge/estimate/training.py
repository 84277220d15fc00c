"""Memory of training: what one GPU holds at the worst moment of a step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from largeforge.estimate.footprints import FULL, SFT, AdapterFootprint, MethodFootprint
from largeforge.estimate.memory import Memory
from largeforge.estimate.shape import Shape
from largeforge.estimate.sharding import SINGLE, Sharding


@dataclass(frozen=True)
class TrainingLoad:
    """One training as one GPU sees it."""

    shape: Shape
    method: MethodFootprint = SFT
    adapter: AdapterFootprint = FULL
    sharding: Sharding = field(default=SINGLE)
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


def training_memory(load: TrainingLoad) -> Memory:
    """Return what a training needs on each GPU, for each moment of a step.

    Raises ValueError for an optimizer that is not known here.
    """
    shape = load.shape
    return Memory({"optimizer step": {"weights": shape.parameters * 2.0, "optimizer": shape.parameters * 4.0}})
