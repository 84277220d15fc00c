"""What operators see and send, for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from largeforge.gateway.admin.rollout_view import RolloutView, Share
from largeforge.gateway.admin.state import MOST_ENTRIES, Mode, Reason
from largeforge.gateway.wire import Open


class GatewayState(Open):
    """What is in force."""

    object: Literal["state"] = "state"
    mode: Mode
    in_force: Literal["normal", "high_load", "degraded", "maintenance", "emergency"]
    """The mode in one word: `emergency` while somebody is isolated."""
    reason: str
    """Why, in words for people."""
    retry_after_s: float
    """When clients that are refused in maintenance are told to come again."""
    experts: dict[str, str]
    """Isolated experts, with the reason."""
    tenants: dict[str, str]
    """Isolated tenants, with the reason."""
    drained: dict[str, str]
    """Servers that get no new requests, with the reason."""
    canaries: dict[str, float]
    """Share of an expert's requests that its canary answers."""
    shadows: dict[str, float]
    """Share of an expert's requests that its canary gets copies of."""
    guarded: dict[str, str]
    """Experts whose canary the gateway itself took out, with the reason."""
    rollouts: dict[str, RolloutView]
    """What controllers tell of rollouts, by expert."""
    since: float
    """When it was set, in seconds since the epoch; what controllers tell of rollouts sets nothing."""
    in_flight: int
    """Answers in progress."""
    outstanding: dict[str, int]
    """Requests that each server has not finished."""
    workers: int
    config: str
    """Digest of the gateway file that is served."""
    version: str


class GatewayStatePatch(Open):
    """A JSON merge patch (RFC 7396): what is given is set, null takes away, everything else stays."""

    model_config = ConfigDict(extra="forbid")

    mode: Mode | None = None
    reason: Reason | None = None
    retry_after_s: float | None = Field(default=None, gt=0, le=86_400)
    experts: dict[str, Reason | None] | None = Field(default=None, max_length=MOST_ENTRIES)
    """Experts to isolate, with the reason, or to release (null)."""
    tenants: dict[str, Reason | None] | None = Field(default=None, max_length=MOST_ENTRIES)
    """Tenants to isolate, with the reason, or to release (null)."""
    drained: dict[str, Reason | None] | None = Field(default=None, max_length=MOST_ENTRIES)
    """Servers to drain, with the reason, or to use again (null)."""
    canaries: dict[str, Share | None] | None = Field(default=None, max_length=MOST_ENTRIES)
    """Share of an expert's requests that its canary answers, from 0 to 1, or nothing (null)."""
    shadows: dict[str, Share | None] | None = Field(default=None, max_length=MOST_ENTRIES)
    """Share of an expert's requests that its canary gets copies of, or nothing (null)."""
    guarded: dict[str, Reason | None] | None = Field(default=None, max_length=MOST_ENTRIES)
    """Null lets a canary that the gateway itself took out have a share again; without that, giving it one is refused
    (409)."""
    rollouts: dict[str, dict[str, Any] | None] | None = None
    """What changes of rollouts, by expert: the keys of `RolloutView`; `seen` alone every few seconds."""


class GatewayArms(Open):
    """What was counted of experts with a canary, on both sides."""

    object: Literal["arms"] = "arms"
    data: dict[str, dict[Literal["canary", "stable"], ArmCounts]]
    """By expert and side, of all workers together."""
    workers: dict[str, dict[str, dict[Literal["canary", "stable"], ArmCounts]]]
    """The same of each worker by its number. What is new since an earlier look is known of each alone: the counts of
    one that was started anew begin anew."""


class ArmCounts(Open):
    """Counts of one side since the gateway started, copies included; further keys are signals of quality
    (`schema_valid`, `agreement`, `judge`, `thumbs`), with `good` and `total`."""

    requests: int
    errors: int
    """Requests without a good answer; those of a canary that stable answered in its place count here."""
    duration: TimeCounts
    ttft: TimeCounts
    """Time to first token, of streams."""


class TimeCounts(Open):
    """A histogram of times."""

    edges: list[float]
    """Bounds in seconds."""
    counts: list[int]
    """Requests up to each bound and over the one before; the last are those over all."""


class GatewayConfig(Open):
    """A gateway file: how requests are routed, and to which servers."""

    gateway: dict[str, Any]
    """The recipe's section of this name."""
    router: dict[str, Any]
    """The recipe's section of this name."""
    topology: dict[str, Any]
    """The recipe's section of this name."""
    upstreams: dict[str, Any]
    """Servers of each expert, by the expert's name."""


class Monitor(Open):
    """What the page `/monitor` shows."""

    object: Literal["monitor"] = "monitor"
    now: float
    """Time of the gateway, in seconds since the epoch."""
    started: float
    """When the first of its workers started, which is what is counted since."""
    mode: str
    in_flight: int
    queued: int
    """Requests that wait for a busy expert."""
    history: dict[str, Any]
    """The last ten minutes, a number for each second up to `end`."""
    window_s: float
    """What rates and percentiles are of; five minutes, less after the start."""
    experts: list[dict[str, Any]]
    """Experts with their servers, rates and percentiles in seconds."""
    objectives: list[dict[str, Any]]
    """Objectives with their value within the window, and the error budget left since the start."""
    quality: list[dict[str, Any]]
    """Judgements of answers since the start."""
    rollouts: list[dict[str, Any]]
    """Rollouts with their log, the newest entry first, and whether a controller looks after them."""
