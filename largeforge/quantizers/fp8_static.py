"""Weights and activations of 8-bit floats, with llm-compressor: one scale for all activations of a layer, calibrated.

A little faster than dynamic fp8, and a little less exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from largeforge.quantizers import _llm_compressor
from largeforge.recipe.quantization import Quantizer, no_kernel

if TYPE_CHECKING:
    from largeforge.recipe.quantization import QuantizingJob, Target

ENVIRONMENT = _llm_compressor.ENVIRONMENT
BITS = 8.0


class Config(Quantizer):
    """Settings of static fp8."""

    name: Literal["fp8_static"] = "fp8_static"


def calibrated(config: Config) -> bool:
    """Whether it reads training rows."""
    return True


def unservable(config: Config, target: Target) -> Iterator[str]:
    """Yield why vLLM could not serve it: its CPU build lacks the operator that quantizes activations so."""
    if target.device == "cpu" and not target.other_vllm:
        yield "vLLM 0.32 has no static fp8 on a CPU (static_scaled_fp8_quant is not there); fp8_dynamic is served"
    yield from no_kernel(target, below=7.5, what="fp8 weights")


def quantize(config: Config, job: QuantizingJob) -> None:
    """Write the quantized model."""
    from llmcompressor.modifiers.quantization import QuantizationModifier

    ignored = _llm_compressor.IGNORED
    _llm_compressor.oneshot([QuantizationModifier(targets="Linear", scheme="FP8", ignore=ignored)], job)
