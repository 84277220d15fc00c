"""The KV cache against vLLM's own rules: its classes, and what its logs said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from largeforge.estimate.decoders import shape
from largeforge.estimate.kv_cache import BLOCK_SIZE, Cache, cache_of

if TYPE_CHECKING:
    from largeforge.estimate.shape import Shape

GIB = 2**30
WINDOWED = Cache(block_bytes=1.0, full_groups=1, window_groups=1, window=128, step_tokens=2048)


def dense(**changes: int) -> Shape:
    fields = {
        "model_type": "llama", "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 12,
        "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 1000,
    }  # fmt: skip
    return shape({**fields, **changes})


def test_a_token_takes_what_vllm_says_for_qwen3_coder_30b(library: Callable[[str], Shape]) -> None:
    """`max seq len (262144), (24.0 GiB KV cache is needed` (github.com/vllm-project/vllm/issues/34076)."""
    cache = cache_of(library("qwen3_30b_a3b"), 2.0)
    assert cache.blocks(262144) * cache.block_bytes == 24 * GIB


def test_tensor_parallelism_splits_heads_down_to_one(library: Callable[[str], Shape]) -> None:
    model = library("qwen3_30b_a3b")  # four heads of keys and values
    sizes = [cache_of(model, 2.0, tp=tp).bytes_per_token for tp in (1, 2, 4, 8)]
    assert sizes == [98304, 49152, 24576, 24576]


def test_alternating_windows_of_gpt_oss_make_two_groups(library: Callable[[str], Shape]) -> None:
    cache = cache_of(library("gpt_oss_20b"), 2.0)
    assert (cache.full_groups, cache.window_groups, cache.window) == (1, 1, 128)
    assert cache.block_bytes == 12 * BLOCK_SIZE * 2 * 8 * 64 * 2


@pytest.mark.parametrize(
    ("full", "windowed", "groups"),
    [(10, 20, (1, 2)), (12, 0, (1, 0)), (0, 12, (0, 1)), (13, 12, (1, 1)), (8, 40, (1, 5))],
)
def test_groups_have_equally_many_layers(full: int, windowed: int, groups: tuple[int, int]) -> None:
    """The examples of vLLM's `_get_kv_cache_groups_uniform_page_size`."""
    model = replace(dense(num_hidden_layers=full + windowed), window=64, window_layers=windowed)
    cache = cache_of(model, 2.0)
    assert (cache.full_groups, cache.window_groups) == groups


@given(st.integers(1, 200_000))
def test_windows_take_the_blocks_that_vllm_admits(length: int) -> None:
    """`SlidingWindowSpec.max_admission_blocks_per_request` of vLLM 0.32, written out."""
    kept = min(128 - 1 + 2048, length)
    vllm = -(-length // 16) + -(-kept // 16) + 1
    assert WINDOWED.blocks(length) == vllm


@given(st.integers(1, 100_000), st.integers(1, 1000), st.sampled_from([1, 2, 4, 8]))
def test_longer_sequences_take_no_fewer_blocks_and_fp8_half_the_bytes(length: int, more: int, tp: int) -> None:
    cache, small = cache_of(dense(), 2.0, tp=tp), cache_of(dense(), 1.0, tp=tp)
    assert cache.blocks(length) <= cache.blocks(length + more)
    assert WINDOWED.blocks(length) <= WINDOWED.blocks(length + more)
    assert cache.block_bytes == 2 * small.block_bytes
    assert cache.blocks(length) * BLOCK_SIZE >= length
