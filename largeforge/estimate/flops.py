"""Floating-point operations of a decoder, for each token of a sequence.

A multiplication and its addition are two operations. Matrix multiplications: Kaplan et al. 2020 (Scaling
Laws for Neural Language Models, section 2.1); attention: Chowdhery et al. 2022 (PaLM, appendix B), here
with the causal mask and sliding windows taken into account, as flash attention does. Norms, softmax,
activations and the embedding look-up are left out, as they are there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from largeforge.estimate.shape import Shape


def matmul_flops_per_token(shape: Shape, *, head: bool = True) -> float:
    """Return the operations of a forward pass in linear layers: twice the weights that a token meets.

    `head` says whether logits are computed for the token.
    """
    weights = sum(layer.active_weights for layer in shape.linears)
    return 2.0 * (weights + (shape.vocab_size * shape.hidden_size if head else 0))


def attention_flops_per_token(shape: Shape, length: int) -> float:
    """Return the operations of a forward pass in attention, on average over a sequence of `length` tokens."""
    full = (shape.layers - shape.window_layers) * mean_context(length, 0)
    windowed = shape.window_layers * mean_context(length, shape.window)
    return _per_context_token(shape) * (full + windowed)


def forward_flops_per_token(shape: Shape, length: int, *, head: bool = True) -> float:
    """Return all operations of a forward pass, on average over a sequence of `length` tokens.

    A backward pass costs twice as much where weights are trained, and as much again where they are frozen
    but gradients pass through, as under LoRA; recomputing activations costs one forward pass more
    (Chowdhery et al. 2022, appendix B; Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost).
    """
    return matmul_flops_per_token(shape, head=head) + attention_flops_per_token(shape, length)


def decode_flops(shape: Shape, context: int) -> float:
    """Return the operations that generate one token after `context` tokens whose keys and values are cached."""
    seen = (shape.layers - shape.window_layers) * context
    seen += shape.window_layers * (min(context, shape.window) if shape.window else context)
    return matmul_flops_per_token(shape) + _per_context_token(shape) * seen


def mean_context(length: int, window: int) -> float:
    """Return how many tokens a token sees, itself included, on average over a sequence; window 0 for none."""
    if not window or length <= window:
        return (length + 1) / 2
    return window - window * (window - 1) / (2 * length)


def _per_context_token(shape: Shape) -> float:
    """Operations of scores and of weighted values for one token that is seen, in one layer."""
    return 4.0 * shape.heads * shape.head_dim
