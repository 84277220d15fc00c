"""Rank-stabilised LoRA (Kalajdzievski, arXiv:2312.03732): additions scaled by lora_alpha / √lora_r.

With LoRA's lora_alpha / lora_r the additions of a high rank shrink, and learn no more than those of a low one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from largeforge.adapters import _low_rank

if TYPE_CHECKING:
    from largeforge.estimate.footprints import AdapterFootprint


class Config(_low_rank.LowRank):
    """Settings of rank-stabilised LoRA, under peft's names with trl's `lora_` prefix."""

    name: Literal["rslora"] = "rslora"


def footprint(config: Config) -> AdapterFootprint:
    """Return what is trained instead of the weights."""
    return _low_rank.footprint(config)


def peft_config(config: Config) -> Any:
    """Return the peft configuration of the adapter."""
    return _low_rank.peft_config(config, use_rslora=True)


def quantization(config: Config, *, precision: str) -> None:
    """Return None: the base is loaded as it is."""
