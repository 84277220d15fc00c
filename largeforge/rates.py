"""What earlier trainings on this machine reached: one line a finished run in `runs/.rates.jsonl`.

A plan that finds runs like it takes their rate instead of the hardware's profile. Lines are only ever
added; one that cannot be read is passed over, so a crash while writing costs that line and the next.
"""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from largeforge.artifacts import append_line, canonical_json
from largeforge.estimate.ranges import Range

if TYPE_CHECKING:
    from pathlib import Path

FILE = ".rates.jsonl"
MAX_READ_BYTES = 2**20
"""How much of the end of the file is read: some four thousand runs."""
NEWEST = 20
"""Runs that count; what a machine reached a hundred runs ago, with other software, does not."""
CREDIBLE = (1e3, 1e17)
"""FLOP/s of one device that a line may claim: from far below one core to far above a B200; others are broken."""
LIKE_SPREAD, OTHER_SPREAD = 1.25, 3.0
"""Factor by which a run may miss the rate of a few equal runs, and of runs of other models or methods."""


@dataclass(frozen=True)
class Achieved:
    """One finished training, as far as its speed goes."""

    device: str
    """`Machine.name`."""
    model: str
    """`estimate.duration.shape_key`."""
    method: str
    adapter: str
    """Name of the adapter and how the frozen weights are kept, for example `lora` or `lora-nf4`."""
    precision: str
    gpus: int
    flops: float
    """`estimate.duration.training_flops` of the tokens that were learnt from, padding not counted."""
    seconds: float
    """Duration of the steps alone."""

    @property
    def flops_per_s(self) -> float:
        """Rate of one GPU, or of the CPU."""
        return self.flops / self.seconds / max(1, self.gpus)


@dataclass(frozen=True)
class Known:
    """What earlier runs say about the rate of a training that is planned."""

    flops_per_s: Range
    """Of one GPU, or of the CPU; low, median and high."""
    runs: int
    """How many runs it rests on."""
    of: Literal["this model", "another model or method"]


def record(root: Path, run: Achieved) -> None:
    """Add a finished training to the rates below `root`, the folder of all runs.

    One without a rate (no tokens counted, no time passed) is left out. Raises OSError.
    """
    if run.seconds > 0 and run.flops > 0 and math.isfinite(run.flops):
        root.mkdir(parents=True, exist_ok=True)
        append_line(root / FILE, canonical_json(asdict(run)))


def known(root: Path, like: Achieved) -> Known | None:
    """Return the rate of earlier runs like the given one, whose flops and seconds do not matter; None without any.

    Runs of the same model and method on the same device count alone where there are any; otherwise
    all in the same precision on that device do, with a wide range.
    """
    runs = [run for run in _read(root / FILE) if (run.device, run.precision) == (like.device, like.precision)]
    same = [run for run in runs if _kind(run) == _kind(like)]
    chosen = (same or runs)[-NEWEST:]
    if not chosen:
        return None
    found = sorted(run.flops_per_s for run in chosen)
    middle = statistics.median(found)
    spread = LIKE_SPREAD if same else OTHER_SPREAD
    around = Range(min(found[0], middle / spread), middle, max(found[-1], middle * spread))
    return Known(_robust(found, around), len(chosen), "this model" if same else "another model or method")


def _robust(found: list[float], around: Range) -> Range:
    """Return the range without the slowest and fastest tenth where there are ten runs or more."""
    if len(found) < 10:
        return around
    cut = len(found) // 10
    return Range(found[cut], around.expected, found[-1 - cut])


def _kind(run: Achieved) -> tuple[str, str, str]:
    return run.model, run.method, run.adapter


def _read(path: Path) -> list[Achieved]:
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - MAX_READ_BYTES))
            lines = stream.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    runs = [_run(line) for line in lines]
    return [run for run in runs if run is not None]


def _run(line: str) -> Achieved | None:
    """Return the run of a line; None where it is broken, or faster or slower than any device is."""
    try:
        run = Achieved(**json.loads(line))
        numbers = (run.flops, run.seconds, run.gpus)
        credible = all(isinstance(number, int | float) and number > 0 for number in numbers)
        return run if credible and CREDIBLE[0] <= run.flops_per_s <= CREDIBLE[1] else None
    except (ValueError, TypeError, ArithmeticError, RecursionError):
        return None
