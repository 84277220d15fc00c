"""How much memory a piece of work needs, moment by moment and part by part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

GIB = 2.0**30
"""Bytes of a GiB."""

PARTS = (
    "weights", "gradients", "optimizer", "adapter", "activations", "logits", "kv_cache", "reference", "overhead",
)  # fmt: skip
"""What memory is spent on, in the order of display; `adapter` is the adapter's own weights, `reference` the
frozen second model of a method: reference or teacher."""


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU, or of the worker process where it runs on a CPU."""

    phases: Mapping[str, Mapping[str, float]]
    """Moment (`forward/backward`, `optimizer step`, `generation`, ...) to part to bytes."""

    @property
    def peak_phase(self) -> str:
        """The moment that needs most."""
        return max(self.phases, key=lambda name: sum(self.phases[name].values()))

    @property
    def parts(self) -> dict[str, float]:
        """Bytes of each part at the peak, in the order of `PARTS`; parts that need nothing are left out."""
        peak = self.phases[self.peak_phase]
        return {part: peak[part] for part in PARTS if peak.get(part)}

    @property
    def total(self) -> float:
        """Bytes at the peak."""
        return sum(self.phases[self.peak_phase].values())


def bytes_per_value(dtype: str) -> int:
    """Return the bytes of one number of a dtype that a recipe names.

    Raises ValueError for a dtype that is not known here.
    """
    sizes = {"fp32": 4, "bf16": 2, "fp16": 2, "fp8": 1}
    if dtype not in sizes:
        raise ValueError(f"dtype {dtype!r}; there is: {', '.join(sizes)}")
    return sizes[dtype]
