"""Memory of the output head and the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.estimate.memory import bytes_per_value

if TYPE_CHECKING:
    from largeforge.estimate.load import TrainingLoad

TILE_TOKENS, TILE_WORDS = 4096, 32768
"""Tokens and vocabulary entries of one tile of logits (trl 1.16 `kernels/chunked_logprob.py`
`TOKEN_CHUNK_SIZE`, `trainer/utils.py` `_CHUNKED_LOGPROB_CHUNK_SIZE`)."""
_CPU_TILES = 8.25
"""Tiles in fp32 that trl's loss has alive at once where there is no Triton kernel (`_backward_tile`): the logits, their
log-probabilities, probabilities and gradient, and four operands of the last line; a quarter for the mask."""


def loss_bytes(load: TrainingLoad, *, forward_only: bool = False) -> float:
    """Return what is needed beside activations while the loss or, if not `forward_only`, its gradient is computed."""
    if load.method.logits == "none":
        return 0.0
    return _full(load, forward_only) if load.method.logits == "full" else _fused(load, forward_only)


def _fused(load: TrainingLoad, forward_only: bool) -> float:
    """Tile of logits, scored hidden states and, in fp32 first, the gradients of these and of the head."""
    shape, size = load.shape, bytes_per_value(load.compute)
    scored = load.tokens * load.method.scored
    hidden = scored * shape.hidden_size
    tokens = min(scored, TILE_TOKENS)
    if load.device == "cuda":
        tile = tokens * TILE_WORDS * size
    else:
        tile = tokens * min(shape.vocab_size, TILE_WORDS) * 4 * _CPU_TILES
    if forward_only:
        return tile + 2 * size * hidden
    gradient_of_hidden = hidden * (4 + (size if size != 4 else 0))
    return tile + size * hidden + gradient_of_hidden + _head_gradient(load)


def _head_gradient(load: TrainingLoad) -> float:
    if not load.adapter.trains_all:
        return 0.0
    own = bytes_per_value(load.weights)
    return load.shape.vocab_size * load.shape.hidden_size * (4 + (own if own != 4 else 0))


def _full(load: TrainingLoad, forward_only: bool) -> float:
    words = load.tokens * load.shape.vocab_size
    size = bytes_per_value(load.compute) * (2 if load.shape.logit_softcap else 1)  # tanh keeps what it makes
    return words * (size + 4 * (2 if forward_only else load.method.full_copies))
