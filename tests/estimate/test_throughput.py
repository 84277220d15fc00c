"""Speed of serving: inside the bands that others measured with vLLM, and consistent in itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from largeforge.estimate.decoders import shape
from largeforge.estimate.serving import Server, serving_memory
from largeforge.estimate.shape import Shape
from largeforge.estimate.throughput import Load, Speed, in_flight_limit
from largeforge.hardware import Rates, machine
from largeforge.recipe import profiles

Library = Callable[[str], Shape]
GPUS = {profile.name: machine(profile).rates for profile in profiles.profiles()}
SMALL = shape(
    {
        "model_type": "qwen2", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 16,
        "num_attention_heads": 16, "num_key_value_heads": 8, "vocab_size": 32000, "max_position_embeddings": 8192,
    }
)  # fmt: skip


@pytest.mark.parametrize(
    ("gpu", "load", "in_flight", "weights", "measured"),
    [
        ("a100_40gb", Load(1024, 128), 1, "bf16", 75),
        ("a100_40gb", Load(1024, 128), 8, "bf16", 495),
        ("h100", Load(230, 203), 256, "bf16", 6583),
        ("h100", Load(778, 73), 256, "fp8", 5777),
        ("l40s", Load(778, 73), 256, "fp8", 1642),
    ],
    ids=["sweep, 1 in flight", "sweep, 8 in flight", "ShareGPT", "MLPerf, H100", "MLPerf, L40S"],
)
def test_answers_of_llama_8b_come_as_fast_as_measured(
    gpu: str, load: Load, in_flight: int, weights: str, measured: float, library: Library
) -> None:
    """Tokens of all answers per second, from published runs of vLLM.

    johnmusgrave.com/p/vllm-throughput-latency-sweep-on (vLLM 0.23, 6.6 times as much with 8 in flight as
    with 1); github.com/vllm-project/vllm/pull/18566; Red Hat's MLPerf Inference v5.1 submission (vLLM 0.10,
    CNN/DailyMail: some 778 tokens of prompt, 73 of answer).
    """
    server = Server(library("llama_3_1_8b_instruct"), weights=weights, kv_cache_dtype=weights)
    found = Speed(server, GPUS[gpu], in_flight).requests_per_second(load) * load.completion_tokens
    assert found.low <= measured <= found.high
    assert found.expected == pytest.approx(measured, rel=0.75)


def test_bandwidth_bounds_a_single_answer(library: Library) -> None:
    """No faster than reading all weights once a token: 15.0 GB at 300 GB/s on an L4."""
    server = Server(library("llama_3_1_8b_instruct"))
    found = Speed(server, GPUS["l4"], 1).tokens_per_second_alone()
    assert 0.5 * 300 / 15.0 < found.low < found.high < 300 / 15.0


def test_a_mixture_of_experts_is_as_fast_as_what_it_uses(library: Library) -> None:
    dense, mixture = (
        Speed(Server(library(name)), GPUS["h200"], 64) for name in ("qwen2_5_32b_instruct", "qwen3_30b_a3b")
    )
    alone = mixture.tokens_per_second_alone().expected / dense.tokens_per_second_alone().expected
    full = mixture.requests_per_second(Load()).expected / dense.requests_per_second(Load()).expected
    assert alone > 3
    assert 1 < full < alone  # with many rows nearly all experts are read


def test_a_70b_model_over_four_h100(library: Library) -> None:
    """35 GB of weights on each: between 12 ms (all of the bandwidth) and 30 ms a token."""
    server = Server(library("llama_3_1_70b_instruct"), tensor_parallel_size=4)
    found = Speed(server, GPUS["h100"], 64).tokens_per_second_alone()
    assert 33 < found.low < found.high < 85
    slow_link = replace(GPUS["h100"], link_gb_per_s=8.0)
    assert Speed(server, slow_link, 64).ttft_s(4096).expected > Speed(server, GPUS["h100"], 64).ttft_s(4096).expected


def test_in_flight_requests_follow_littles_law(library: Library) -> None:
    speed = Speed(Server(library("llama_3_1_8b_instruct")), GPUS["h100"], 256)
    load = Load(512, 256, requests_per_second=10)
    state = speed.under(load)
    assert state is not None
    latency = load.completion_tokens / state.tokens_per_second.expected
    assert state.in_flight.expected == pytest.approx(10 * latency, rel=0.05)


def test_an_overload_is_said_to_be_one(library: Library) -> None:
    speed = Speed(Server(library("llama_3_1_8b_instruct")), GPUS["l4"], 16)
    most = speed.requests_per_second(Load())
    assert speed.under(Load(requests_per_second=most.expected * 1.05)) is None
    near = speed.under(Load(requests_per_second=most.expected * 0.95))
    assert near is not None
    assert near.in_flight.high == 16  # the slow estimate is full


def test_nothing_is_known_without_rates_or_room() -> None:
    assert not Speed(Server(SMALL), Rates(), 8).is_known
    assert not Speed(Server(SMALL), GPUS["l4"], 0).is_known
    assert Speed(Server(SMALL), GPUS["l4"], 8).is_known
    cpu = Server(SMALL, weights="fp32", device="cpu")
    assert Speed(cpu, Rates(fp32_tflops=0.3, bandwidth_gb_per_s=50), 8).is_known


def test_in_flight_is_limited_by_the_setting_and_by_the_cache() -> None:
    found = serving_memory(Server(SMALL, max_num_seqs=32), usable_bytes=24 * 2**30)
    assert in_flight_limit(Server(SMALL, max_num_seqs=32), found.sequences(512)) == 32
    assert in_flight_limit(Server(SMALL, max_num_seqs=32), 7) == 7


@given(
    prompt=st.integers(1, 4000), answer=st.integers(1, 2000), rows=st.integers(1, 512), rate=st.floats(0.01, 50),
    gpu=st.sampled_from(["l4", "rtx_4090", "a100_80gb", "h200", "mi300x"]),
)  # fmt: skip
def test_longer_requests_are_slower_and_more_side_by_side_carry_more(
    prompt: int, answer: int, rows: int, rate: float, gpu: str
) -> None:
    speed, wider = (Speed(Server(SMALL), GPUS[gpu], count) for count in (rows, 2 * rows))
    load = Load(prompt, answer, rate)
    most = speed.requests_per_second(load)
    assert most.low <= most.expected <= most.high
    assert speed.requests_per_second(Load(2 * prompt, answer)).expected <= most.expected
    assert speed.requests_per_second(Load(prompt, 2 * answer)).expected <= most.expected
    assert wider.requests_per_second(load).expected >= most.expected * 0.999
    assert speed.ttft_s(2 * prompt).expected > speed.ttft_s(prompt).expected
    state = speed.under(load)
    assert (state is None) == (rate >= most.expected)
    if state is not None:
        assert state.in_flight.high <= rows
        busier = speed.under(replace(load, requests_per_second=rate / 2))
        assert busier is not None
        assert busier.in_flight.expected <= state.in_flight.expected
        assert busier.ttft_p95_s.expected <= state.ttft_p95_s.expected
