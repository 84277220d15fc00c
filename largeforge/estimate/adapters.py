"""Parameters of adapters, and bytes of the weights under them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from largeforge.estimate.footprints import AdapterFootprint
    from largeforge.estimate.shape import Linear, Shape

NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a weight in 4-bit NormalFloat with double quantization: 4 bits, a scale of 8 bits per block of 64, and
an fp32 constant per 256 scales, 4.127 bits in all (Dettmers et al., arXiv:2305.14314, section 3)."""


EXPERT_LORA = ("qwen3_moe",)
"""Mixtures whose experts peft adapts too, under the names that their layers had before transformers fused them
(peft 0.21 `utils/transformers_weight_conversion.py`, `_convert_peft_config_moe`)."""


def targets(shape: Shape, adapter: AdapterFootprint) -> list[Linear]:
    """Return the linear layers of the decoder that get a LoRA addition, experts apart."""
    if adapter.trains_all:
        return []
    every = adapter.targets == "all-linear"
    return [one for one in shape.linears if one.is_linear and (every or one.name in adapter.targets)]


def expert_targets(shape: Shape, adapter: AdapterFootprint) -> list[tuple[Linear, int]]:
    """Return the experts' layers that get additions, and the rank of each: twice as much where two were fused."""
    if adapter.trains_all or shape.model_type not in EXPERT_LORA:
        return []
    old_names = {"gate_up_proj": ("gate_proj", 2), "down_proj": ("down_proj", 1)}
    found = [(one, *old_names[one.name]) for one in shape.linears if one.is_expert and one.name in old_names]
    every = adapter.targets == "all-linear"
    return [(one, fused * adapter.rank) for one, name, fused in found if every or name in adapter.targets]


def adapter_parameters(shape: Shape, adapter: AdapterFootprint) -> int:
    """Return the parameters of an adapter: r × (inputs + outputs) for each target (Hu et al., arXiv:2106.09685).

    DoRA adds a magnitude per output (Liu et al., arXiv:2402.09353).
    """
    if adapter.trains_all:
        return 0
    plain = targets(shape, adapter)
    if adapter.targets == "all-linear":
        plain += [one for one in shape.vision_linears if one.is_linear]
    widths = adapter.rank * sum(one.count * (one.inputs + one.outputs) for one in plain)
    experts = sum(rank * one.count * (one.inputs + one.outputs) for one, rank in expert_targets(shape, adapter))
    magnitudes = sum(one.count * one.outputs for one in plain) if adapter.dora else 0
    return widths + experts + magnitudes


def merged_expert_values(shape: Shape, adapter: AdapterFootprint) -> float:
    """Return the values of a layer's experts with their additions merged in, which peft makes in each forward pass
    (`ParamWrapper` in peft `lora/layer.py`)."""
    return sum(one.weights for one, _ in expert_targets(shape, adapter)) / shape.layers


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
