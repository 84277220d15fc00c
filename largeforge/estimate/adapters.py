"""Parameters of adapters, and bytes of the weights under them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from largeforge.estimate.footprints import AdapterFootprint
    from largeforge.estimate.shape import Linear, Shape

NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a weight in 4-bit NormalFloat with double quantization: 4 bits, a scale of 8 bits per block of 64, and
an fp32 constant per 256 scales, 4.127 bits in all (Dettmers et al., arXiv:2305.14314, section 3)."""


def is_target(linear: Linear, adapter: AdapterFootprint) -> bool:
    """Return whether a linear layer gets a LoRA addition."""
    if adapter.targets == "all-linear":
        return linear.is_linear
    return linear.name in adapter.targets


def adapter_parameters(shape: Shape, adapter: AdapterFootprint) -> int:
    """Return the parameters of an adapter: r × (inputs + outputs) for each target (Hu et al., arXiv:2106.09685).

    DoRA adds a magnitude per output (Liu et al., arXiv:2402.09353).
    """
    if adapter.trains_all:
        return 0
    targets = [linear for linear in (*shape.linears, *shape.vision_linears) if is_target(linear, adapter)]
    widths = sum(linear.count * (linear.inputs + linear.outputs) for linear in targets)
    magnitudes = sum(linear.count * linear.outputs for linear in targets) if adapter.dora else 0
    return adapter.rank * widths + magnitudes


def base_bytes(shape: Shape, adapter: AdapterFootprint, bytes_per_parameter: float) -> float:
    """Return the bytes of the model's own weights as they lie in memory during training.

    In nf4 every linear layer but the head is quantized; embeddings, head, norms and biases stay
    (transformers `quantizer_bnb_4bit.py`).
    """
    total = shape.parameters * bytes_per_parameter
    if adapter.base_weights == "as_precision":
        return total
    quantized = sum(linear.weights for linear in (*shape.linears, *shape.vision_linears) if linear.is_linear)
    return total + quantized * (NF4_BYTES - bytes_per_parameter)
