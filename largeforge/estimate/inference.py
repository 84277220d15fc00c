"""Memory of answering and judging with plain transformers, and of merging an adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from largeforge.estimate.adapters import adapter_parameters, base_bytes
from largeforge.estimate.memory import Memory, bytes_per_value
from largeforge.estimate.overhead import process_bytes

if TYPE_CHECKING:
    from largeforge.estimate.footprints import AdapterFootprint
    from largeforge.estimate.shape import Shape

Device = Literal["cuda", "cpu"]

LOGITS_BYTES = 2**30
"""Logits that the evaluate stage computes at a time, where a single row has no more."""
PIECE_TOKENS = 512
"""Tokens whose logits it turns into log-probabilities in fp32 at a time."""


def frozen_layer_bytes(shape: Shape, tokens: float, size: int) -> float:
    """Return what a forward pass without gradients needs beside weights: three values of the MLP's width per token
    (gate's activation, up, their product), the layer's input, and what it is normalized to."""
    return tokens * size * (3 * shape.mlp_width + 2 * shape.hidden_size)


def generation_parts(shape: Shape, *, sequences: int, prompt: int, new_tokens: int, size: int) -> dict[str, float]:
    """Return the parts of memory that `generate` adds to weights.

    The cache of a layer is made anew by each token (`DynamicLayer.update` in transformers `cache_utils.py`
    concatenates), so that one layer's keys or values are there twice; logits are of the last position only, in fp32
    beside what they were computed in.
    """
    cache = sequences * shape.kv_bytes(prompt + new_tokens, size)
    return {
        "kv_cache": cache * (1 + 0.5 / shape.layers),
        "activations": frozen_layer_bytes(shape, sequences * prompt, size),
        "logits": sequences * shape.vocab_size * (size + 4.0),
    }


def evaluation_memory(
    shape: Shape, *, adapter: AdapterFootprint, batch: int, prompt: int, new_tokens: int, weights: str, device: Device
) -> Memory:
    """Return what judging beside the base needs: answers of `new_tokens`, or where that is 0 log-probabilities of rows.

    A model with all weights trained is loaded after its base is gone; an adapter is put on the base, which is in 4 bits
    where it was trained so. Log-probabilities take the logits of a part of the batch as computed, and a piece of them
    in fp32 with its exponentials.
    """
    size = bytes_per_value(weights)
    steady = {
        "weights": base_bytes(shape, adapter, size), "adapter": 4.0 * adapter_parameters(shape, adapter),
        "overhead": process_bytes(device),
    }  # fmt: skip
    if new_tokens:
        answers = generation_parts(shape, sequences=batch, prompt=prompt, new_tokens=new_tokens, size=size)
        return Memory({"generation": {**steady, **answers}})
    tokens = max(prompt, min(batch * prompt, LOGITS_BYTES // (shape.vocab_size * size)))
    scores = {
        "activations": frozen_layer_bytes(shape, tokens, size),
        "logits": shape.vocab_size * (tokens * size + min(prompt, PIECE_TOKENS) * 8.0),
    }
    return Memory({"log-probabilities": {**steady, **scores}})


def merge_memory(shape: Shape, adapter: AdapterFootprint, *, stored: str = "bf16") -> Memory:
    """Return what merging an adapter into its base needs of the host's memory.

    `safe_merge` of peft copies a layer's weights and computes its change in fp32 before it is added.
    """
    size = bytes_per_value(stored)
    widest = max((linear.inputs * linear.outputs for linear in shape.linears), default=0)
    parts = {
        "weights": shape.parameters * float(size), "adapter": 4.0 * adapter_parameters(shape, adapter),
        "activations": widest * (size + 8.0), "overhead": process_bytes("cpu"),
    }  # fmt: skip
    return Memory({"merging": parts})
