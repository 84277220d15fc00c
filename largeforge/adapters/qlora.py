"""QLoRA (Dettmers et al., arXiv:2305.14314): LoRA on a base that lies in memory with 4 bits a weight.

The additions are trained and judged on the base in 4 bits, so that both fit; they are merged into the base as it is
stored, and served on it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from largeforge.adapters import _low_rank

if TYPE_CHECKING:
    from largeforge.estimate.footprints import AdapterFootprint


class Config(_low_rank.LowRank):
    """Settings of QLoRA, under peft's and bitsandbytes' names."""

    name: Literal["qlora"] = "qlora"
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = "nf4"
    """Format of the weights; `nf4` (4-bit NormalFloat) is the paper's."""
    bnb_4bit_use_double_quant: bool = True
    """Whether the scales are quantized as well, which saves 0.4 bits a weight."""


def footprint(config: Config) -> AdapterFootprint:
    """Return what is trained instead of the weights."""
    return replace(_low_rank.footprint(config), base_weights="nf4")


def peft_config(config: Config) -> Any:
    """Return the peft configuration of the adapter."""
    return _low_rank.peft_config(config)


def quantization(config: Config, *, precision: str) -> Any:
    """Return how transformers loads the base; matrices are multiplied in `precision`, fp32 or bf16."""
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=config.bnb_4bit_quant_type,
        bnb_4bit_use_double_quant=config.bnb_4bit_use_double_quant,
        bnb_4bit_compute_dtype={"fp32": torch.float32, "bf16": torch.bfloat16}[precision],
    )
