"""Memory of judging and merging."""

from __future__ import annotations

from dataclasses import replace

import pytest

from largeforge.estimate.decoders import shape
from largeforge.estimate.footprints import FULL, AdapterFootprint
from largeforge.estimate.inference import evaluation_memory, merge_memory

QWEN = shape({
    "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
    "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
})  # fmt: skip
LORA = AdapterFootprint(rank=16)
SIZES = {"batch": 8, "prompt": 256, "new_tokens": 64}


def test_one_model_is_there_at_a_time_and_in_four_bits_where_it_was_trained_so() -> None:
    full, lora, qlora = (
        evaluation_memory(QWEN, adapter=adapter, weights="bf16", device="cuda", **SIZES)
        for adapter in (FULL, LORA, replace(LORA, base_weights="nf4"))
    )
    assert full.parts["weights"] == lora.parts["weights"] == 2 * QWEN.parameters
    assert lora.parts["adapter"] < 0.1 * lora.parts["weights"]
    assert qlora.parts["weights"] < 0.7 * lora.parts["weights"]  # the embedding of so small a model is most of it


def test_log_probabilities_take_the_logits_of_a_part_of_the_batch() -> None:
    given = {"adapter": LORA, "weights": "fp32", "device": "cpu", "new_tokens": 0}
    memory = evaluation_memory(QWEN, batch=8, prompt=320, **given)
    assert memory.parts["logits"] == pytest.approx(2**30 + 320 * 151936 * 8, rel=0.01)
    long = evaluation_memory(QWEN, batch=1, prompt=8192, **given)
    assert long.parts["logits"] == pytest.approx(8192 * 151936 * 4 + 512 * 151936 * 8)  # one row is not divided


def test_answers_take_a_cache_for_each_row_of_the_batch() -> None:
    memory = evaluation_memory(QWEN, adapter=LORA, weights="fp32", device="cpu", **SIZES)
    assert memory.parts["kv_cache"] == pytest.approx(8 * 320 * QWEN.kv_bytes_per_token(4), rel=0.03)


def test_merging_holds_the_model_once_with_the_adapter() -> None:
    memory = merge_memory(QWEN, LORA)
    assert memory.parts["weights"] == 2 * QWEN.parameters
    assert memory.total < 2 * 2 * QWEN.parameters + memory.parts["overhead"]
