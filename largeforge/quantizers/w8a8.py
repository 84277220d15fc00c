"""Weights and activations of 8-bit integers (W8A8), with llm-compressor: a scale for each output and each token.

Weights are rounded to nearest, or by GPTQ (arXiv:2210.17323), which needs calibration. Activations are quantized while
serving, so that nothing of them is calibrated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from largeforge.quantizers import _llm_compressor
from largeforge.recipe.quantization import Quantizer, no_kernel

if TYPE_CHECKING:
    from largeforge.recipe.quantization import QuantizingJob, Target

ENVIRONMENT = _llm_compressor.ENVIRONMENT
BITS = 8.0


class Config(Quantizer):
    """Settings of W8A8."""

    name: Literal["w8a8"] = "w8a8"
    algorithm: Literal["gptq", "round"] = "gptq"
    """How weights are rounded: by GPTQ, or to nearest, which needs no calibration."""


def calibrated(config: Config) -> bool:
    """Whether it reads training rows."""
    return config.algorithm == "gptq"


def unservable(config: Config, target: Target) -> Iterator[str]:
    """Yield why vLLM could not serve it (`compressed_tensors_w8a8_int8.py`); its CPU kernels take any widths."""
    yield from no_kernel(target, below=7.5, what="int8 weights and activations")


def quantize(config: Config, job: QuantizingJob) -> None:
    """Write the quantized model."""
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier

    modifier: Any = GPTQModifier if config.algorithm == "gptq" else QuantizationModifier
    _llm_compressor.oneshot([modifier(targets="Linear", scheme="W8A8", ignore=_llm_compressor.IGNORED)], job)
