"""Weights and activations of 8-bit floats, with llm-compressor: activations are scaled token by token while serving.

Needs no calibration. GPUs below compute capability 8.9 have no such arithmetic: vLLM keeps the weights small there and
computes in 16 bits (`compressed_tensors.py`, W8A16 through Marlin).
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
    """Settings of dynamic fp8."""

    name: Literal["fp8_dynamic"] = "fp8_dynamic"


def calibrated(config: Config) -> bool:
    """Whether it reads training rows."""
    return False


def unservable(config: Config, target: Target) -> Iterator[str]:
    """Yield why vLLM could not serve it; on a CPU torch's own kernel does."""
    yield from no_kernel(target, below=7.5, what="fp8 weights")


def quantize(config: Config, job: QuantizingJob) -> None:
    """Write the quantized model."""
    from llmcompressor.modifiers.quantization import QuantizationModifier

    ignored = _llm_compressor.IGNORED
    _llm_compressor.oneshot([QuantizationModifier(targets="Linear", scheme="FP8_DYNAMIC", ignore=ignored)], job)
