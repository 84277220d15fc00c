"""LoRA (Hu et al., arXiv:2106.09685): train low-rank additions to frozen linear layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from largeforge.adapters import _low_rank

if TYPE_CHECKING:
    from largeforge.estimate.footprints import AdapterFootprint


class Config(_low_rank.LowRank):
    """Settings of LoRA, under peft's names with trl's `lora_` prefix."""

    name: Literal["lora"] = "lora"


def footprint(config: Config) -> AdapterFootprint:
    """Return what is trained instead of the weights."""
    return _low_rank.footprint(config)


def peft_config(config: Config) -> Any:
    """Return the peft configuration of the adapter."""
    return _low_rank.peft_config(config)


def quantization(config: Config, *, precision: str) -> None:
    """Return None: the base is loaded as it is."""
