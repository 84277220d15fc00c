"""Bytes of weights in the formats that vLLM serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from largeforge.estimate.shape import Linear

BASES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0}
"""Bytes of a weight that is not quantized."""

BITS = {
    "fp8": 8.0,
    "int8": 8.0,
    "awq": 4 + (16 + 4) / 128,
    "gptq": 4 + (16 + 4) / 128,
    "nf4": 4 + 8 / 64 + 32 / (64 * 256),
    "mxfp4": 4 + 8 / 32,
}
"""Bits of a quantized weight with its share of scales and zero points: per channel for fp8 and int8, which is
next to nothing; fp16 scales and 4-bit zeros per 128 for AWQ and GPTQ (Lin et al., arXiv:2306.00978; Frantar et
al., arXiv:2210.17323); double quantization in blocks of 64 and 256 for NF4 (Dettmers et al., arXiv:2305.14314);
blocks of 32 for MXFP4 (OCP Microscaling Formats specification 1.0, section 5)."""


SAME = {"bitsandbytes": "nf4", "awq_marlin": "awq", "gptq_marlin": "gptq"}
"""Further names of a format, as `quant_method` of a config.json has them."""


def linear_bytes(layer: Linear, weights: str) -> float:
    """Return the bytes of all layers of one kind, biases included.

    Quantizing leaves routers as they are, and MXFP4 as GPT-OSS has it all but the experts. Raises
    ValueError for a format that is not known.
    """
    weights = SAME.get(weights, weights)
    if weights in BASES:
        return layer.parameters * BASES[weights]
    if weights not in BITS:
        raise ValueError(f"weights {weights!r}; there is: {', '.join([*BASES, *BITS])}")
    quantized = layer.is_expert if weights == "mxfp4" else layer.is_expert or layer.is_linear
    if not quantized:
        return layer.parameters * BASES["bf16"]
    biases = layer.parameters - layer.weights
    return layer.weights * BITS[weights] / 8 + biases * BASES["bf16"]
