"""Bytes of optimizer states, by the names that transformers gives optimizers."""

from __future__ import annotations

import difflib
from dataclasses import dataclass


@dataclass(frozen=True)
class Optimizer:
    """States of one trained parameter."""

    values: float = 0.0
    """States in the dtype of the parameter."""
    fixed_bytes: float = 0.0
    """Bytes of states that do not follow the parameter's dtype."""
    scratch: float = 0.0
    """Values, in the dtype of the parameter, that all parameters need at once during the step."""
    full_embedding: bool = False
    """Whether the states of embeddings stay in fp32 (transformers `trainer_optimizer.py`, `bitsandbytes`)."""


_EIGHT_BIT = 1 + 4 / 256
"""A quantized state and its share of an fp32 scale per block of 256 (Dettmers et al., arXiv:2110.02861)."""

OPTIMIZERS = {
    "adamw_torch_fused": Optimizer(values=2),
    "adamw_torch": Optimizer(values=2, scratch=1),  # `_foreach_sqrt` in torch/optim/adamw.py
    "adamw_apex_fused": Optimizer(values=2),
    "adamw_anyprecision": Optimizer(values=3),
    "adamw_bnb_8bit": Optimizer(fixed_bytes=2 * _EIGHT_BIT, full_embedding=True),
    "adamw_8bit": Optimizer(fixed_bytes=2 * _EIGHT_BIT, full_embedding=True),
    "paged_adamw_8bit": Optimizer(fixed_bytes=2 * _EIGHT_BIT, full_embedding=True),
    "paged_adamw": Optimizer(fixed_bytes=8),
    "paged_adamw_32bit": Optimizer(fixed_bytes=8),
    "lion_32bit": Optimizer(fixed_bytes=4),
    "paged_lion_32bit": Optimizer(fixed_bytes=4),
    "lion_8bit": Optimizer(fixed_bytes=_EIGHT_BIT, full_embedding=True),
    "paged_lion_8bit": Optimizer(fixed_bytes=_EIGHT_BIT, full_embedding=True),
    "rmsprop": Optimizer(values=1, scratch=1),
    "adagrad": Optimizer(values=1, scratch=1),
    "sgd": Optimizer(),
    "adafactor": Optimizer(),
}
"""Optimizer by name. Adafactor keeps a row and a column of each matrix, which is nothing beside the rest."""


def optimizer(name: str) -> Optimizer:
    """Return the optimizer of that name. Raises ValueError when it is not known here."""
    if name not in OPTIMIZERS:
        near = difflib.get_close_matches(name, OPTIMIZERS, n=1)
        raise ValueError(f"no memory figures for optimizer {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    return OPTIMIZERS[name]
