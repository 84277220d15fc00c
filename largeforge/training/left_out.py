"""Packages that trl, peft and transformers import wherever they are installed: more than a second of each start."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.recipe import further_models

if TYPE_CHECKING:
    from largeforge.recipe.training import TrainingMethod

NEVER_NEEDED = ("wandb", "sklearn")
"""Trackers are processes of their own; scikit-learn serves assisted generation alone."""
_BEHIND_MODELS = ("scipy", "sklearn")
"""What transformers imports with any model, for losses of object detection and assisted generation: a second."""
_BNB_OPTIMIZERS = ("8bit", "paged", "bnb", "ademamix")
"""Parts of the names of optimizers that are bitsandbytes'."""


def leave_out(method: TrainingMethod, *, base: str, quantizes: bool, launcher: str) -> None:
    """Make packages that this process does not need look as if they were not installed; before trl is imported.

    `base` is the folder of the model, or its name on the hub; `quantizes`: whether it is quantized as it is loaded.
    """
    for name in unneeded(method, base=base, quantizes=quantizes, launcher=launcher):
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # what Python's own import takes for "not there"
    have_no_optional_parts()


def have_no_optional_parts() -> None:
    """Let transformers' models do without packages that they import for what no language model has.

    transformers asks once whether they are installed; they are there again for whoever imports them afterwards.
    """
    hidden = [name for name in _BEHIND_MODELS if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        utils = import_module("transformers.utils")
        for name in _BEHIND_MODELS:
            getattr(utils, f"is_{name}_available")()
    finally:
        for name in hidden:
            del sys.modules[name]


def unneeded(method: TrainingMethod, *, base: str, quantizes: bool, launcher: str) -> tuple[str, ...]:
    """Return the packages that a training surely does without."""
    never = NEVER_NEEDED if launcher == "deepspeed" else (*NEVER_NEEDED, "deepspeed")  # which imports MLflow, too
    optimizer = any(part in method.optim for part in _BNB_OPTIMIZERS)
    others = any(named.reference for named in further_models.of_settings("method", method))
    if quantizes or optimizer or others or _may_be_quantized(base):
        return never
    return (*never, "bitsandbytes")


def _may_be_quantized(base: str) -> bool:
    try:
        config = json.loads((Path(base) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True
    return not isinstance(config, dict) or "quantization_config" in config
