"""What one stage of a plan needs, and whether the machine has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from largeforge.estimate.memory import GIB

if TYPE_CHECKING:
    from largeforge.estimate.load import TrainingLoad
    from largeforge.estimate.memory import Memory
    from largeforge.estimate.ranges import Range
    from largeforge.estimate.schedule import Schedule
    from largeforge.estimate.serving import ServingMemory
    from largeforge.estimate.targets import Finding
    from largeforge.estimate.throughput import Load, Speed

Verdict = Literal["fits", "tight", "too big", "unknown"]

UNCERTAINTY = 0.10
"""Share by which a real peak may lie above the estimate: the p95 error that docs/memory.md reports, rounded up."""


@dataclass(frozen=True)
class ServingForecast:
    """What a vLLM server has room for, and how fast it will be."""

    memory: ServingMemory
    speed: Speed | None
    """None where the device's rates are not known or nothing fits."""
    load: Load
    """What `serving.targets` asks for."""
    findings: tuple[Finding, ...]
    """One for each target."""

    @property
    def in_flight(self) -> Range | None:
        """Requests at any moment under the load that is asked for; None without one, and when it cannot be carried."""
        if self.speed is None or not self.load.requests_per_second:
            return None
        state = self.speed.under(self.load)
        return state.in_flight if state else None

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers as plain data."""
        room, tokens = self.memory, self.load.completion_tokens
        lengths = sorted({self.load.length, room.max_model_len})
        return {
            "kv_blocks": room.num_blocks,
            "kv_tokens": room.kv_tokens,
            "sequences": {str(length): room.sequences(length) for length in lengths},
            "tokens_per_s_alone": self.speed.tokens_per_second_alone().as_list() if self.speed else None,
            "tokens_per_s": (self.speed.requests_per_second(self.load) * tokens).as_list() if self.speed else None,
            "in_flight": self.in_flight.as_list() if self.in_flight else None,
            "targets": {finding.target: finding.answer for finding in self.findings},
        }


@dataclass(frozen=True)
class TrainingForecast:
    """What a training does, for the time that it takes."""

    load: TrainingLoad
    schedule: Schedule | None
    """None where the rows are not known."""
    flops: float
    basis: str
    """Where the rate comes from that the hours rest on; empty without hours."""


@dataclass(frozen=True)
class Forecast:
    """What one stage needs."""

    memory: Memory | None = None
    """Bytes on each GPU, or of the process on a CPU; None where the model's shape is not known."""
    usable_bytes: float = 0.0
    """Bytes that one GPU, or the machine, can give; 0 where it is not known."""
    spare_bytes: float = 0.0
    """Bytes of the peak that it could do without, such as KV cache beyond one sequence; negative where some lack."""
    refusal: str = ""
    """Why it cannot run whatever the memory, or the reason in the words of the program that would refuse."""
    assumptions: tuple[str, ...] = ()
    """What the numbers rest on beyond the recipe, or why there are none; each a sentence without a full stop."""
    hours: Range | None = None
    cost: Range | None = None
    """Price of the hours, in US dollars."""
    serving: ServingForecast | None = None
    training: TrainingForecast | None = None
    disk_bytes: float = 0.0
    """Bytes that the stage leaves or needs on disk while it runs."""

    @property
    def verdict(self) -> Verdict:
        """Whether it fits; `tight` within the uncertainty of the estimate."""
        if self.refusal:
            return "too big"
        if self.memory is None or not self.usable_bytes:
            return "unknown"
        if self.needed_bytes > self.usable_bytes:
            return "too big"
        return "tight" if self.needed_bytes * (1 + UNCERTAINTY) > self.usable_bytes else "fits"

    @property
    def needed_bytes(self) -> float:
        """Bytes without which it cannot run; 0 where they are not known."""
        return self.memory.total - self.spare_bytes if self.memory else 0.0

    @property
    def share(self) -> float:
        """Share of the usable memory that is needed at the peak; 0 where it is not known."""
        return self.memory.total / self.usable_bytes if self.memory and self.usable_bytes else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers as plain data, memory in GiB."""
        return {
            "verdict": self.verdict,
            "refusal": self.refusal,
            "memory_gib": {part: round(size / GIB, 3) for part, size in self.memory.parts.items()}
            if self.memory
            else {},
            "peak_gib": round(self.memory.total / GIB, 3) if self.memory else None,
            "usable_gib": round(self.usable_bytes / GIB, 3),
            "hours": self.hours.as_list() if self.hours else None,
            "cost_usd": self.cost.as_list() if self.cost else None,
            "serving": self.serving.as_dict() if self.serving else None,
            "disk_gib": round(self.disk_bytes / GIB, 3),
            "assumptions": list(self.assumptions),
        }
