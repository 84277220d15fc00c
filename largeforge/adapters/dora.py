"""DoRA (Liu et al., arXiv:2402.09353): LoRA for the direction of a weight, and a trained magnitude per output.

Slower than LoRA, since the norm of the merged weight is computed in each forward pass; merge it to serve it:
vLLM serves no DoRA adapters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from largeforge.adapters import _low_rank

if TYPE_CHECKING:
    from largeforge.estimate.footprints import AdapterFootprint


class Config(_low_rank.LowRank):
    """Settings of DoRA, under peft's names with trl's `lora_` prefix."""

    name: Literal["dora"] = "dora"


def footprint(config: Config) -> AdapterFootprint:
    """Return what is trained instead of the weights."""
    return _low_rank.footprint(config, dora=True)


def peft_config(config: Config) -> Any:
    """Return the peft configuration of the adapter."""
    return _low_rank.peft_config(config, use_dora=True)


def quantization(config: Config, *, precision: str) -> None:
    """Return None: the base is loaded as it is."""
