"""How many replicas of an expert run: between which numbers, by what, and how fast that changes."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from largeforge.recipe.base import Name, Strict


class Scaling(Strict):
    """What decides how many replicas of an expert run. The largest of all needs counts."""

    min_replicas: int = Field(default=1, ge=0)
    """Fewest replicas. With 0 the last one stops when nobody asks for `idle_s`, and the first request that waits at the
    gateway starts it again."""
    max_replicas: int = Field(default=0, ge=0)
    """Most replicas; 0 is all that the recipe places, which is `replicas` of the expert."""
    in_flight: float = Field(default=0.8, gt=0, le=1)
    """Requests in flight at each replica that are aimed at, as a share of `serving.max_num_seqs`."""
    waiting: float = Field(default=4.0, gt=0)
    """Requests that may wait at the gateway for each replica before another is wanted."""
    latency: bool = True
    """Whether a latency beyond what `slo` promises calls for another replica, and one that is close to it keeps those
    that there are."""
    cache_use: float = Field(default=0.9, ge=0, le=1)
    """Share of vLLM's KV cache in use that is aimed at, the mean over replicas; 0 does not look at it."""
    gpu_use: float = Field(default=0.0, ge=0, le=1)
    """Share of the time in which GPUs work that is aimed at, the mean over replicas; 0 does not look at it: a single
    long answer keeps a GPU at work, so this says that a server is in use, not that it is full."""
    tolerance: float = Field(default=0.1, ge=0, lt=1)
    """By how much, as a share, a number may be off its target without any change."""
    up_s: float = Field(default=60.0, ge=0)
    """How long more replicas must be needed before they are started."""
    panic: float = Field(default=2.0, ge=0)
    """How many times what running replicas are meant for may be asked of them, beyond which `up_s` is not waited for;
    0 always waits."""
    down_s: float = Field(default=300.0, ge=0)
    """How long fewer replicas must have been enough before any are stopped."""
    idle_s: float = Field(default=900.0, ge=0)
    """How long nobody may have asked before the last replica stops, with `min_replicas: 0`."""
    start_s: float = Field(default=120.0, gt=0)
    """How long a replica takes to start, until hosts have measured it."""
    prewarm: bool = True
    """Whether a new replica must answer a real prompt before the gateway sends it requests."""
    predictive: bool = False
    """Whether replicas are also started ahead of what weeks before have needed at the same hour; without such weeks,
    nothing is foretold."""
    weeks: int = Field(default=4, ge=1, le=26)
    """How many weeks are remembered for that."""

    @model_validator(mode="after")
    def _min_is_below_max(self) -> Self:
        if self.max_replicas and self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas = {self.min_replicas} is above max_replicas = {self.max_replicas}")
        return self


class Autoscaling(Scaling):
    """How many replicas of experts run, for `largeforge autoscale` and for exports that scale."""

    name: str = "none"
    """Name of the choice under `conf/autoscaling/`."""
    enabled: bool = False
    """Whether `largeforge autoscale` may start and stop replicas of this deployment."""
    interval_s: float = Field(default=5.0, ge=1, le=60)
    """Seconds between two looks."""
    experts: dict[Name, Scaling] = {}
    """By expert with a server of its own, what is different for it; the rest is as above."""

    @model_validator(mode="before")
    @classmethod
    def _over_own(cls, given: Any) -> Any:
        """Let an expert that names some of the keys have the section's own values of the others."""
        if not isinstance(given, dict) or not isinstance(given.get("experts"), dict):
            return given
        own = {name: given[name] for name in Scaling.model_fields if name in given}
        experts = {
            name: {**own, **value} if isinstance(value, dict) else value for name, value in given["experts"].items()
        }
        return {**given, "experts": experts}

    def of(self, expert: str) -> Scaling:
        """Return what holds for an expert."""
        return self.experts.get(expert, self)
