"""Weights of 4 bits by GPTQ (arXiv:2210.17323), with llm-compressor.

Errors of rounding are made up for in the columns that come later.
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
    """Settings of GPTQ."""

    name: Literal["gptq"] = "gptq"
    group_size: Literal[32, 64, 128] = 128
    """Weights that share a scale; it must divide the inputs of every linear layer."""
    dampening_frac: float = Field(default=0.01, gt=0)
    """Added to the diagonal of the Hessian, as a share of its mean."""


def calibrated(config: Config) -> bool:
    """Whether it reads training rows."""
    return True


def unservable(config: Config, target: Target) -> Iterator[str]:
    """Yield why vLLM could not serve it."""
    yield from _w4a16.unservable(target, group_size=config.group_size)


def quantize(config: Config, job: QuantizingJob) -> None:
    """Write the quantized model."""
    from llmcompressor.modifiers.gptq import GPTQModifier

    scheme = _llm_compressor.weights_of_4_bits(config.group_size, symmetric=True)
    ignored = _llm_compressor.IGNORED
    modifier = GPTQModifier(config_groups=scheme, ignore=ignored, dampening_frac=config.dampening_frac)
    _llm_compressor.oneshot([modifier], job)
