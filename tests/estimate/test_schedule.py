"""Steps and tokens of a training, counted as transformers counts them."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from largeforge.estimate.schedule import RowLengths, at_most, schedule

EVEN = at_most(100)


@pytest.mark.parametrize(
    ("rows", "batch", "accumulation", "gpus", "epochs", "steps"),
    [(100, 8, 1, 1, 3, 39), (100, 8, 4, 1, 3, 12), (100, 8, 4, 2, 1, 2), (7, 8, 4, 1, 1, 1), (100, 10, 1, 1, 0.5, 5)],
)
def test_steps_are_those_of_transformers(
    rows: int, batch: int, accumulation: int, gpus: int, epochs: float, steps: int
) -> None:
    found = schedule(EVEN, rows=rows, batch=batch, accumulation=accumulation, gpus=gpus, epochs=epochs)
    assert found.steps == steps


def test_the_trainer_itself_counts_the_same_steps() -> None:
    """`Trainer.set_initial_training_values` of the installed transformers."""
    from torch.nn import Linear
    from transformers import Trainer, TrainingArguments

    for rows, batch, accumulation, epochs in [(100, 8, 4, 3.0), (99, 4, 8, 1.5), (1000, 16, 1, 2.0), (5, 8, 4, 1.0)]:
        arguments = TrainingArguments(
            output_dir="unused", per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation,
            num_train_epochs=epochs, use_cpu=True, report_to="none",
        )  # fmt: skip
        trainer = Trainer(Linear(1, 1), arguments, train_dataset=[{"x": 0.0}] * rows)
        *_, counted = trainer.set_initial_training_values(arguments, trainer.get_train_dataloader())
        found = schedule(EVEN, rows=rows, batch=batch, accumulation=accumulation, epochs=epochs)
        assert found.steps == counted


def test_max_steps_count_instead_of_epochs() -> None:
    found = schedule(EVEN, rows=1000, batch=10, epochs=3, max_steps=50)
    assert (found.steps, found.micro_steps, found.tokens) == (50, 50, 50 * 10 * 100)


def test_gradient_accumulation_makes_more_passes_of_the_same_tokens() -> None:
    one, four = (schedule(EVEN, rows=1000, batch=10, accumulation=n) for n in (1, 4))
    assert (one.steps, four.steps) == (100, 25)
    assert (one.micro_steps, one.tokens) == (four.micro_steps, four.tokens) == (100, 100_000)


def test_packing_fills_sequences_without_padding() -> None:
    lengths = RowLengths(mean=100, p50=80, p95=300, max=900)
    found = schedule(lengths, rows=1000, batch=2, packed_length=1000)
    assert found.micro_steps == 50
    assert found.tokens == found.padded_tokens == 100_000


def test_preferences_have_two_sequences_a_row() -> None:
    found = schedule(EVEN, rows=100, batch=4, sequences_per_row=2)
    assert (found.steps, found.batch, found.tokens) == (25, 8, 20_000)


@pytest.mark.parametrize("batch", [1, 2, 4, 8, 16, 32])
def test_padding_is_close_to_what_batches_of_such_rows_have(batch: int) -> None:
    chance = random.Random(5)
    rows = [min(2048, max(10, round(chance.lognormvariate(5.5, 0.7)))) for _ in range(20_000)]
    ordered = sorted(rows)
    lengths = RowLengths(statistics.fmean(rows), ordered[10_000], ordered[19_000], ordered[-1])
    real = statistics.fmean(max(rows[start : start + batch]) for start in range(0, len(rows) - batch, batch))
    assert lengths.padded(batch) == pytest.approx(real, rel=0.15)


@given(
    rows=st.integers(1, 10**6), batch=st.integers(1, 64), accumulation=st.integers(1, 32), gpus=st.integers(1, 64),
    epochs=st.floats(0.1, 10), mean=st.floats(1, 4000),
)  # fmt: skip
def test_padding_only_adds_and_all_rows_are_read(
    rows: int, batch: int, accumulation: int, gpus: int, epochs: float, mean: float
) -> None:
    lengths = RowLengths(mean, mean * 0.9, mean * 2, mean * 5)
    found = schedule(lengths, rows=rows, batch=batch, accumulation=accumulation, gpus=gpus, epochs=epochs)
    assert found.padded_tokens >= found.tokens * 0.999
    assert found.tokens >= epochs * rows * mean * 0.999
    assert found.micro_steps >= found.steps >= 1
