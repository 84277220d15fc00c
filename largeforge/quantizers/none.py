"""No quantization: the model is kept as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from largeforge.recipe.quantization import Quantizer

if TYPE_CHECKING:
    from largeforge.recipe.quantization import QuantizingJob, Target

ENVIRONMENT = ""
BITS = 0.0


class Config(Quantizer):
    """Settings of no quantization; those of all quantizers are read and mean nothing."""

    name: Literal["none"] = "none"


def calibrated(config: Config) -> bool:
    """Whether it reads training rows."""
    return False


def unservable(config: Config, target: Target) -> Iterator[str]:
    """Yield nothing: what is not quantized needs no kernels of its own."""
    yield from ()


def quantize(config: Config, job: QuantizingJob) -> None:
    """Do nothing: the stage keeps the original."""
