"""Weights of 4 bits by AWQ (arXiv:2306.00978), with llm-compressor.

Channels that matter are scaled up before they are rounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from largeforge.quantizers import _llm_compressor, _w4a16
from largeforge.recipe.quantization import Quantizer

if TYPE_CHECKING:
    from largeforge.recipe.quantization import QuantizingJob, Target

ENVIRONMENT = _llm_compressor.ENVIRONMENT
BITS = 4.0


class Config(Quantizer):
    """Settings of AWQ."""

    name: Literal["awq"] = "awq"
    group_size: Literal[32, 64, 128] = 128
    """Weights that share a scale and a zero point; it must divide the inputs of every linear layer."""
    n_grid: int = Field(default=20, gt=0)
    """Strengths of scaling that are tried for each group of layers."""


def calibrated(config: Config) -> bool:
    """Whether it reads training rows."""
    return True


def unservable(config: Config, target: Target) -> Iterator[str]:
    """Yield why vLLM could not serve it."""
    yield from _w4a16.unservable(target, group_size=config.group_size)


def quantize(config: Config, job: QuantizingJob) -> None:
    """Write the quantized model."""
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier

    scheme = _llm_compressor.weights_of_4_bits(config.group_size, symmetric=False)
    rounding = QuantizationModifier(config_groups=scheme, ignore=_llm_compressor.IGNORED)
    _llm_compressor.oneshot([AWQModifier(n_grid=config.n_grid), rounding], job)
