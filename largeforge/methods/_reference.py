"""The model that DPO and KTO compare the policy with."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from largeforge.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from largeforge.recipe.base import Extension
    from largeforge.recipe.training import Training


def model(config: Any, training: Training) -> Any:
    """Return the reference model; None where it is the trained one without its adapter, or not kept.

    trl would load it by the name of the model, which does not say the revision.
    """
    if training.peft_config is not None or config.precompute_ref_log_probs:
        return None
    return copy.deepcopy(training.model)


def problems(config: Any, adapter: Extension) -> Iterator[Problem]:
    """Yield why the reference cannot follow the policy as `extra.sync_ref_model` (arXiv:2404.09656) wants."""
    if not config.extra.get("sync_ref_model"):
        return
    if adapter.name != "none":
        yield Problem("extra.sync_ref_model", "beside an adapter there is no reference to move; use adapter=none.")
    if config.precompute_ref_log_probs:
        yield Problem("extra.sync_ref_model", "a reference that is computed once cannot move.")
