"""How often a training goes over how many tokens: rows, batches, epochs and padding."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

POINTS = 64
"""Points at which the distribution of row lengths is evaluated."""


@dataclass(frozen=True)
class RowLengths:
    """Tokens of the rows of a dataset; `data.lengths.Lengths` has the same fields."""

    mean: float
    p50: float
    p95: float
    max: float

    def padded(self, batch: int) -> float:
        """Return the expected length of the longest of `batch` rows, to which the others are padded.

        Lengths are taken to be log-normal with the median and the 95th percentile that were counted, and
        cut at the longest. The longest of b rows lies below a quantile u with probability u to the b.
        """
        if batch == 1 or self.p95 <= max(self.p50, 1.0):
            return max(self.mean, self.p95 if batch > 1 else 0.0)
        normal = NormalDist(
            math.log(max(self.p50, 1.0)), math.log(self.p95 / max(self.p50, 1.0)) / NormalDist().inv_cdf(0.95)
        )
        middles = ((2 * point + 1) / (2 * POINTS) for point in range(POINTS))
        longest = (min(self.max, math.exp(normal.inv_cdf(middle ** (1 / batch)))) for middle in middles)
        return max(self.mean, sum(longest) / POINTS)


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
