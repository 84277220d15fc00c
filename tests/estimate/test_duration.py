"""Hours and costs of trainings: close to what was measured, and in the right order among themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from largeforge.data import token_counts
from largeforge.estimate.decoders import shape
from largeforge.estimate.duration import cost, shape_key, training_flops, training_hours
from largeforge.estimate.footprints import DPO, FULL, GRPO, SFT, AdapterFootprint, with_teacher
from largeforge.estimate.load import TrainingLoad
from largeforge.estimate.ranges import Range, exactly
from largeforge.estimate.schedule import RowLengths, at_most, schedule
from largeforge.estimate.sharding import Sharding
from largeforge.hardware import Rates, machine
from largeforge.recipe import profiles

if TYPE_CHECKING:
    from collections.abc import Callable

    from largeforge.estimate.schedule import Schedule
    from largeforge.estimate.shape import Shape

GPUS = {profile.name: machine(profile).rates for profile in profiles.profiles()}
TWO_CORES = Rates(fp32_tflops=2 * 2.5 * 64 / 1000, bandwidth_gb_per_s=51.2)
"""Two cores with AVX-512: the machine of docs/benchmarks.md."""
TINY = {
    "model_type": "qwen2", "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 1200, "tie_word_embeddings": True,
}  # fmt: skip
LORA, QLORA = AdapterFootprint(16), AdapterFootprint(16, base_weights="nf4")
DATA = Path(__file__).parents[2] / "recipes" / "data" / "quickstart"


@pytest.fixture
def model(library: Callable[[str], Shape]) -> Shape:
    return library("llama_3_1_8b_instruct")


def hours(load: TrainingLoad, done: Schedule, gpu: str = "h100") -> float:
    found = training_hours(load, done, GPUS[gpu])
    assert found is not None
    return found.expected


@pytest.mark.parametrize(
    ("data", "adapter", "steps", "cores", "measured_s"),
    [("general", FULL, 500, 2, 75.2), ("mapper_train", AdapterFootprint(32), 300, 1, 83.2)],
)
def test_the_quickstart_trains_as_long_as_measured(
    data: str, adapter: AdapterFootprint, steps: int, cores: int, measured_s: float
) -> None:
    """docs/benchmarks.md, `general.train` and `mapper.train`, start-up included."""
    counted = token_counts.count(DATA / f"{data}.jsonl", kind="sft")
    lengths = RowLengths(counted.mean, counted.p50, counted.p95, counted.max)
    load = TrainingLoad(
        shape(TINY), adapter=adapter, batch=32, weights="fp32", compute="fp32", checkpointing=False, device="cpu"
    )
    done = schedule(lengths, rows=counted.rows, batch=32, max_steps=steps)
    found = training_hours(load, done, replace(TWO_CORES, fp32_tflops=TWO_CORES.fp32_tflops * cores / 2))
    assert found is not None
    assert found.low < measured_s / 3600 < found.high
    assert found.expected * 3600 == pytest.approx(measured_s, rel=0.25)


def test_full_training_takes_six_operations_for_each_weight_and_token(model: Shape) -> None:
    """Kaplan et al. 2020, section 2.1: C = 6 N D; attention adds little to short rows."""
    weights = model.parameters - model.embedding_parameters
    plain = TrainingLoad(model, checkpointing=False)
    assert training_flops(plain, tokens=1000, length=16) == pytest.approx(6 * weights * 1000, rel=0.01)
    frozen = training_flops(replace(plain, adapter=LORA), tokens=1000, length=16)
    assert frozen == pytest.approx(4 * weights * 1000, rel=0.05)
    again = training_flops(replace(plain, checkpointing=True), tokens=1000, length=16)
    assert again == pytest.approx(8 * weights * 1000, rel=0.08)


def test_a_reference_and_a_teacher_cost_a_forward_pass_each(model: Shape) -> None:
    plain = TrainingLoad(model, checkpointing=False)
    sft, dpo, taught = (
        training_flops(replace(plain, method=method), tokens=1000, length=512)
        for method in (SFT, DPO, with_teacher(SFT, model))
    )
    assert dpo / sft == pytest.approx(4 / 3, rel=0.01)
    assert taught / sft == pytest.approx(4 / 3, rel=0.01)


def test_long_rows_cost_more_for_each_token(model: Shape) -> None:
    load = TrainingLoad(model)
    assert training_flops(load, tokens=1000, length=32768) > 1.5 * training_flops(load, tokens=1000, length=512)


def test_lora_is_faster_and_4_bit_slower_than_full_training(model: Shape) -> None:
    done = schedule(at_most(1024), rows=10_000, batch=8)
    full, lora, qlora = (hours(TrainingLoad(model, adapter=adapter, batch=8), done) for adapter in (FULL, LORA, QLORA))
    assert lora < full
    assert lora < qlora


def test_adapting_the_experts_of_a_mixture_moves_all_of_them(library: Callable[[str], Shape]) -> None:
    mixture = library("qwen3_30b_a3b")
    done = schedule(at_most(512), rows=1000, batch=1)
    attention = AdapterFootprint(16, targets=("q_proj", "v_proj"))
    all_linear, less = (
        hours(TrainingLoad(mixture, adapter=adapter, length=512), done) for adapter in (LORA, attention)
    )
    assert all_linear > 2 * less


def test_generating_answers_takes_most_of_grpo(model: Shape) -> None:
    done = schedule(at_most(512), rows=1000, batch=8)
    plain = hours(TrainingLoad(model, adapter=LORA, batch=8), done)
    assert hours(TrainingLoad(model, adapter=LORA, batch=8, method=GRPO), done) > 2 * plain


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2", "zero3"])
def test_more_gpus_take_less_time_but_not_less_work(strategy: str, model: Shape) -> None:
    found = []
    for gpus in (1, 2, 4, 8):
        load = TrainingLoad(model, batch=8, sharding=Sharding(strategy if gpus > 1 else "none", gpus))  # type: ignore[arg-type]
        found.append(hours(load, schedule(at_most(1024), rows=10_000, batch=8, gpus=gpus)))
    assert found == sorted(found, reverse=True)
    assert all(0.97 * found[0] < gpus * each < 1.5 * found[0] for gpus, each in zip((1, 2, 4, 8), found, strict=True))


def test_a_slow_link_shows(model: Shape) -> None:
    load = TrainingLoad(model, batch=1, sharding=Sharding("fsdp2", 2))
    done = schedule(at_most(512), rows=1000, batch=1, gpus=2)
    slow = training_hours(load, done, replace(GPUS["h100"], link_gb_per_s=8.0))
    assert slow is not None
    assert slow.expected > 1.5 * hours(load, done)


def test_earlier_runs_decide_where_there_are_any(model: Shape) -> None:
    load, done = TrainingLoad(model, batch=8), schedule(RowLengths(500, 450, 900, 1000), rows=10_000, batch=8)
    useful = training_flops(load, tokens=done.tokens, length=done.length)
    found = training_hours(load, done, Rates(), achieved=Range(100e12, 200e12, 400e12))
    assert found is not None
    start = 25 + model.stored_bytes() / 1e9  # seconds until the first step
    assert found.expected == pytest.approx((useful / 200e12 + start) / 3600, rel=1e-6)
    assert found.low < found.expected < found.high


def test_without_rates_and_runs_nothing_is_claimed(model: Shape) -> None:
    done = schedule(at_most(512), rows=1000, batch=1)
    assert training_hours(TrainingLoad(model), done, Rates(bandwidth_gb_per_s=500)) is None


def test_checkpoints_take_time_on_disk(model: Shape) -> None:
    load, done = TrainingLoad(model), schedule(at_most(512), rows=100, batch=1)
    plain = training_hours(load, done, GPUS["h100"])
    saving = training_hours(load, done, GPUS["h100"], checkpoint_bytes=96e9, num_checkpoints=10)
    assert plain is not None
    assert saving is not None
    assert saving.expected - plain.expected == pytest.approx(960 / 3600, rel=0.01)


def test_the_price_is_that_of_all_gpus() -> None:
    found = cost(exactly(10), GPUS["h100"], gpus=8)
    assert found is not None
    assert found.expected == pytest.approx(10 * 8 * 2.69)
    assert cost(exactly(10), Rates()) is None


def test_models_of_other_sizes_have_other_keys(library: Callable[[str], Shape]) -> None:
    names = ("qwen2_5_7b_instruct", "qwen2_5_14b_instruct", "llama_3_1_8b_instruct", "llama_3_1_70b_instruct")
    assert len({shape_key(library(name)) for name in names}) == 4


@given(
    rows=st.integers(1, 100_000), length=st.integers(8, 4096), batch=st.integers(1, 32), epochs=st.floats(0.5, 5),
    adapter=st.sampled_from([FULL, LORA, QLORA]), gpu=st.sampled_from(["rtx_4090", "a100_80gb", "b200"]),
)  # fmt: skip
def test_more_rows_and_longer_ones_never_take_less_time(
    rows: int, length: int, batch: int, epochs: float, adapter: AdapterFootprint, gpu: str
) -> None:
    load = TrainingLoad(shape(TINY), adapter=adapter, batch=batch, length=length)
    found = training_hours(load, schedule(at_most(length), rows=rows, batch=batch, epochs=epochs), GPUS[gpu])
    assert found is not None
    assert 0 < found.low <= found.expected <= found.high
    more = schedule(at_most(length), rows=2 * rows, batch=batch, epochs=epochs)
    longer = schedule(at_most(2 * length), rows=rows, batch=batch, epochs=epochs)
    assert hours(load, more, gpu) >= found.expected
    assert hours(load, longer, gpu) >= found.expected
