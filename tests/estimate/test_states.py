"""Weights, gradients and optimizer states: published figures, and how they are spread over GPUs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from largeforge.estimate.decoders import shape
from largeforge.estimate.footprints import AdapterFootprint
from largeforge.estimate.load import TrainingLoad
from largeforge.estimate.sharding import ZERO3_LIVE, Sharding, Strategy
from largeforge.estimate.states import States, states

GPT_7_5B = shape({
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 36,
    "num_attention_heads": 32, "vocab_size": 32000, "tie_word_embeddings": False,
})  # fmt: skip
"""7.5 billion parameters, as the example of the ZeRO paper."""
LLAMA_65B = shape({
    "model_type": "llama", "hidden_size": 8192, "intermediate_size": 22016, "num_hidden_layers": 80,
    "num_attention_heads": 64, "vocab_size": 32000, "tie_word_embeddings": False,
})  # fmt: skip


def _states(strategy: Strategy, gpus: int = 64, **settings: str) -> States:
    return states(TrainingLoad(GPT_7_5B, sharding=Sharding(strategy, gpus, **settings)))  # type: ignore[arg-type]


@pytest.mark.parametrize(("strategy", "gigabytes"), [("zero1", 31.4), ("zero2", 16.6), ("zero3", 1.9)])
def test_zero_spreads_states_as_its_paper_says(strategy: Strategy, gigabytes: float) -> None:
    found = _states(strategy)
    gathered = 2 * min(ZERO3_LIVE, GPT_7_5B.parameters) if strategy == "zero3" else 0
    own = found.weights - gathered + found.gradients - found.buckets + found.optimizer
    assert own / 1e9 == pytest.approx(gigabytes, rel=0.03)


def test_four_bits_put_65_billion_parameters_on_48_gigabytes() -> None:
    load = TrainingLoad(LLAMA_65B, adapter=AdapterFootprint(rank=64, base_weights="nf4"), optimizer="paged_adamw_32bit")
    found = states(load)
    assert 33e9 < found.weights < 36e9
    assert found.weights + found.adapter + found.gradients + found.optimizer < 48e9


def test_fsdp2_keeps_a_quarter_of_the_states_on_each_of_four() -> None:
    one, four = _states("fsdp2", 1), _states("fsdp2", 4)
    assert four.optimizer == pytest.approx(one.optimizer / 4)
    assert four.gradients - four.buckets == pytest.approx((one.gradients - one.buckets) / 4)
    assert four.weights < one.weights / 2


def test_ddp_takes_a_copy_of_the_gradients_more_than_one_gpu() -> None:
    one, two = _states("none", 1), _states("ddp", 2)
    assert two.gradients == pytest.approx(2 * one.gradients)
    assert two.optimizer == one.optimizer


def test_offloaded_optimizer_states_leave_the_gpu() -> None:
    assert _states("zero2", 8, offload="optimizer").optimizer == 0
    assert _states("zero3", 8, offload="all").weights < _states("zero3", 8).weights


def test_the_copied_reference_is_sharded_with_the_weights() -> None:
    from largeforge.estimate.footprints import DPO

    load = TrainingLoad(GPT_7_5B, method=DPO, sharding=Sharding("fsdp2", 8))
    assert states(load).reference == pytest.approx(2 * GPT_7_5B.parameters / 8)


@pytest.mark.parametrize(
    ("optimizer", "bytes_each"),
    [("adamw_torch_fused", 4.0), ("sgd", 0.0), ("paged_adamw_32bit", 8.0), ("lion_32bit", 4.0)],
)
def test_optimizers_keep_what_their_papers_say(optimizer: str, bytes_each: float) -> None:
    found = states(TrainingLoad(GPT_7_5B, optimizer=optimizer))
    assert found.optimizer == pytest.approx(bytes_each * GPT_7_5B.parameters)


def test_eight_bit_states_leave_those_of_the_embedding_in_fp32() -> None:
    found = states(TrainingLoad(GPT_7_5B, optimizer="adamw_bnb_8bit"))
    embedding = GPT_7_5B.embedding_parameters
    assert found.optimizer == pytest.approx(2 * (1 + 4 / 256) * (GPT_7_5B.parameters - embedding) + 8 * embedding)


def test_adamw_of_torch_needs_a_scratch_copy_that_the_fused_one_does_not() -> None:
    load = TrainingLoad(GPT_7_5B)
    assert states(load).step_scratch == 0
    assert states(replace(load, optimizer="adamw_torch")).step_scratch == pytest.approx(2 * GPT_7_5B.parameters)


def test_dora_adds_a_magnitude_per_output() -> None:
    plain = TrainingLoad(GPT_7_5B, adapter=AdapterFootprint(rank=8))
    dora = replace(plain, adapter=AdapterFootprint(rank=8, dora=True))
    outputs = sum(layer.count * layer.outputs for layer in GPT_7_5B.linears)
    assert states(dora).gradients - states(plain).gradients == pytest.approx(4 * outputs)
