"""What was seen of an expert's replicas at one look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Observation:
    """All replicas of one expert together."""

    ready: int
    """Replicas that the gateway sends requests."""
    most: int
    """Replicas that can run at once: those that are placed, but for those that fail to start."""
    starting: int = 0
    """Replicas on their way: they count as there when more are asked for."""
    in_flight: float = 0.0
    """Requests that replicas have not finished."""
    waiting: float = 0.0
    """Requests that wait at the gateways."""
    requests: float = 0.0
    """Requests that have ended since the last look."""
    latencies_ms: Mapping[str, float] = field(default_factory=dict)
    """By name of a target, its percentile over the last minutes; none while nobody asks."""
    cache_use: float | None = None
    """Share of the KV cache in use, the mean over ready replicas; None where nobody tells."""
    gpu_use: float | None = None
    """Share of the time in which GPUs work, likewise."""
    start_s: float | None = None
    """How long a replica takes to start, as hosts have measured it."""

    @property
    def demand(self) -> float:
        """Requests that somebody waits for the answer of."""
        return self.in_flight + self.waiting

    @property
    def is_idle(self) -> bool:
        """Whether nobody asks."""
        return not (self.demand or self.requests)
