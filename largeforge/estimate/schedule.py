"""How often a training goes over how many tokens: rows, batches, epochs and padding."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass


@dataclass(frozen=True)
class RowLengths:
    """Tokens of the rows of a dataset; `data.lengths.Lengths` has the same fields."""

    mean: float
    p50: float
    p95: float
    max: float

    def padded(self, batch: int) -> float:
        """Return the expected length of the longest of `batch` rows, to which the others are padded.

        The expected maximum lies near the quantile b / (b + 1); the quantiles between those that are
        known are taken as straight lines.
        """
        if batch == 1:
            return self.mean
        points = ((0.0, self.p50 / 2), (0.5, self.p50), (0.95, self.p95), (1.0, self.max))
        wanted = batch / (batch + 1)
        for (low, from_), (high, to) in itertools.pairwise(points):
            if wanted <= high:
                return max(self.mean, from_ + (to - from_) * (wanted - low) / (high - low))
        return self.max


def at_most(max_length: int) -> RowLengths:
    """Return the lengths of rows that nobody counted: all as long as they may be."""
    return RowLengths(max_length, max_length, max_length, max_length)


@dataclass(frozen=True)
class Schedule:
    """What a training does in all, over all GPUs."""

    steps: int
    """Optimizer steps."""
    micro_steps: int
    """Forward and backward passes of each GPU."""
    batch: int
    """Sequences of one forward pass on each GPU."""
    length: float
    """Tokens of a sequence, padding included."""
    tokens: float
    """Tokens that are learnt from or read, over all epochs, without padding."""
    padded_tokens: float
    """Tokens that are computed."""


def schedule(
    lengths: RowLengths,
    *,
    rows: int,
    batch: int,
    accumulation: int = 1,
    gpus: int = 1,
    epochs: float = 1.0,
    max_steps: int = -1,
    packed_length: int = 0,
    sequences_per_row: int = 1,
) -> Schedule:
    """Return what a training does, counted as transformers' Trainer counts.

    `packed_length` is the length that rows are joined to, 0 when they are not; `sequences_per_row` is 2
    where chosen and rejected answers are compared. Rows are dealt to GPUs, the last batch may be short
    (`Trainer.set_initial_training_values`: steps per epoch are rounded up, and so are epochs times steps).
    """
    sequences, mean, padded = float(rows), lengths.mean, lengths.padded(batch * sequences_per_row)
    if packed_length:
        sequences, mean, padded = math.ceil(rows * lengths.mean / packed_length), packed_length, packed_length
    batches = max(1, math.ceil(sequences / (batch * gpus)))
    steps = max_steps if max_steps > 0 else math.ceil(epochs * math.ceil(batches / accumulation))
    passes_over_data = steps / math.ceil(batches / accumulation)
    micro_steps = max(steps, round(passes_over_data * batches))
    seen = passes_over_data * sequences * sequences_per_row
    return Schedule(
        steps=steps,
        micro_steps=micro_steps,
        batch=batch * sequences_per_row,
        length=padded,
        tokens=seen * mean,
        padded_tokens=seen * padded,
    )
