"""Packages that trl, peft and transformers import wherever they are installed: more than a second of each start."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.recipe import further_models

if TYPE_CHECKING:
    from largeforge.recipe.training import TrainingMethod

NEVER_NEEDED = ("wandb", "sklearn")
"""Trackers are processes of their own; scikit-learn serves assisted generation alone."""
_BNB_OPTIMIZERS = ("8bit", "paged", "bnb", "ademamix")
"""Parts of the names of optimizers that are bitsandbytes'."""


def leave_out(method: TrainingMethod, *, base: str, quantizes: bool) -> None:
    """Make packages that this process does not need look as if they were not installed; before trl is imported.

    `base` is the folder of the model, or its name on the hub; `quantizes`: whether it is quantized as it is loaded.
    """
    for name in unneeded(method, base=base, quantizes=quantizes):
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # what Python's own import takes for "not there"


def unneeded(method: TrainingMethod, *, base: str, quantizes: bool) -> tuple[str, ...]:
    """Return the packages that a training surely does without."""
    optimizer = any(part in method.optim for part in _BNB_OPTIMIZERS)
    others = any(named.reference for named in further_models.of_settings("method", method))
    if quantizes or optimizer or others or _may_be_quantized(base):
        return NEVER_NEEDED
    return (*NEVER_NEEDED, "bitsandbytes")


def _may_be_quantized(base: str) -> bool:
    try:
        config = json.loads((Path(base) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True
    return not isinstance(config, dict) or "quantization_config" in config
