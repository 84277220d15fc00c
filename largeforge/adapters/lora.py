"""LoRA (Hu et al., arXiv:2106.09685): train low-rank additions to frozen linear layers."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from largeforge.estimate.footprints import AdapterFootprint
from largeforge.recipe.base import Extension


class Config(Extension):
    """Settings of LoRA, under peft's names with trl's `lora_` prefix."""

    name: Literal["lora"] = "lora"
    lora_r: int = Field(default=16, gt=0)
    """Rank of the additions."""
    lora_alpha: int = Field(default=32, gt=0)
    """Scale: the additions are multiplied by lora_alpha / lora_r."""
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the input of the additions."""
    lora_target_modules: list[str] | Literal["all-linear"] = "all-linear"
    """Names of the layers that get an addition."""


def footprint(config: Config) -> AdapterFootprint:
    """Return what is trained instead of the weights."""
    targets = config.lora_target_modules
    return AdapterFootprint(
        rank=config.lora_r,
        targets="all-linear" if targets == "all-linear" else tuple(targets),
        dropout=config.lora_dropout > 0,
    )


def peft_config(config: Config) -> Any:
    """Return the peft configuration of the adapter."""
    from peft import LoraConfig

    return LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=config.lora_target_modules,
        task_type="CAUSAL_LM",
    )
