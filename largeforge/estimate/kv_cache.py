"""The paged KV cache of vLLM: bytes of a block, and blocks of a sequence.

Layers that see everything and layers with a sliding window form groups of equally many layers that draw
blocks from one pool; a sequence has a block table for each group (vllm/v1/core/kv_cache_utils.py,
`_get_kv_cache_groups_uniform_page_size`; vLLM 0.32).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from largeforge.estimate.shape import Shape

BLOCK_SIZE = 16
"""Tokens of a block (vllm/config/cache.py, `DEFAULT_BLOCK_SIZE`)."""
MAX_PADDING = 1.5
"""With fewer than that many times the layers of the smaller kind, groups take the size of the larger."""


@dataclass(frozen=True)
class Cache:
    """How the KV cache of one server is cut up on each GPU."""

    block_bytes: float
    """Bytes of one block of one group of layers."""
    full_groups: int
    """Groups of layers that see the whole sequence."""
    window_groups: int
    """Groups of layers with a sliding window."""
    window: int
    step_tokens: int
    """Tokens of the largest steps that are under way; a window keeps that many more while a prompt is read."""
    block_size: int = BLOCK_SIZE

    @property
    def bytes_per_token(self) -> float:
        """Bytes that each further token of a sequence shorter than the window takes on one GPU."""
        return self.block_bytes * (self.full_groups + self.window_groups) / self.block_size

    def blocks(self, length: int) -> int:
        """Return the blocks that a sequence of `length` tokens takes over all groups.

        For windows that is vLLM's limit of admission (vllm/v1/kv_cache_interface.py,
        `SlidingWindowSpec.max_admission_blocks_per_request`).
        """
        full = -(-length // self.block_size)
        kept = min(self.window - 1 + self.step_tokens, length)
        windowed = -(-kept // self.block_size) + 1 if self.window_groups else 0
        return self.full_groups * full + self.window_groups * windowed


def cache_of(shape: Shape, value_bytes: float, *, tp: int = 1, step_tokens: int = 2048) -> Cache:
    """Return how the KV cache of a model is cut up on each of `tp` GPUs.

    Heads of keys and values are split; with more GPUs than heads each holds one (vllm/config/model.py,
    `get_num_kv_heads`).
    """
    heads = max(1, shape.kv_heads // tp)
    page = 2 * heads * shape.head_dim * value_bytes * BLOCK_SIZE
    windowed = shape.window_layers if shape.window else 0
    full = shape.layers - windowed
    kinds = [count for count in (full, windowed) if count]
    size = max(kinds) if max(kinds) < min(kinds) * MAX_PADDING else min(kinds)
    return Cache(
        block_bytes=page * size,
        full_groups=-(-full // size),
        window_groups=-(-windowed // size),
        window=shape.window,
        step_tokens=step_tokens,
    )
