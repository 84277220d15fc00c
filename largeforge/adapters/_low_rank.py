"""What all LoRA adapters share: peft's settings under trl's names, and what they cost.

Not here: layers of whole weights beside an adapter (`modules_to_save`), which the estimate does not know.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from largeforge.estimate.footprints import AdapterFootprint
from largeforge.recipe.base import Extension

Initialisation = Literal["default", "gaussian", "orthogonal"]


class LowRank(Extension):
    """Settings of low-rank additions, under peft's names with trl's `lora_` prefix."""

    lora_r: int = Field(default=16, gt=0)
    """Rank of the additions."""
    lora_alpha: int = Field(default=32, gt=0)
    """Scale: the additions are multiplied by lora_alpha / lora_r (rslora: by lora_alpha / √lora_r)."""
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the input of the additions."""
    lora_target_modules: list[str] | Literal["all-linear"] = "all-linear"
    """Names of the layers that get an addition, as the model has them, such as `[q_proj, v_proj]`; `all-linear` is
    every linear layer but the head."""
    init_lora_weights: Initialisation = "default"
    """How the additions begin: `default` is peft's (A uniform, B zero), `gaussian` draws A from a normal distribution;
    `orthogonal` begins with orthogonal rows that add up to nothing, which needs an even rank."""


def footprint(config: LowRank, *, dora: bool = False) -> AdapterFootprint:
    """Return what is trained instead of the weights."""
    targets = config.lora_target_modules
    return AdapterFootprint(
        rank=config.lora_r,
        targets="all-linear" if targets == "all-linear" else tuple(targets),
        dropout=config.lora_dropout > 0,
        dora=dora,
    )


def peft_config(config: LowRank, **more: Any) -> Any:
    """Return the peft configuration of the adapter; `more` are further fields of it."""
    from peft import LoraConfig

    return LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=config.lora_target_modules,
        init_lora_weights=True if config.init_lora_weights == "default" else config.init_lora_weights,
        task_type="CAUSAL_LM",
        **more,
    )
