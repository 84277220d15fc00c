"""What the gateway does when servers are slow, broken or full."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from largeforge.recipe.base import Strict

Balance = Literal["least_outstanding", "prefix"]


class Retries(Strict):
    """Requests that are sent once more, to another replica, while nothing of an answer has reached the client."""

    most: int = Field(default=2, ge=0)
    """Further attempts of one request; 0 tries no replica but the first."""
    budget: float = Field(default=0.2, ge=0, le=1)
    """Share of all requests that may be such further attempts, so that retries do not bring down what is overloaded.
    Requests that a dead server lost are moved without counting, except with 0, which never tries again."""
    first_byte_timeout_s: float = Field(default=0, ge=0)
    """Ask another replica when the first has sent nothing of a stream for so long; 0 waits as long as
    `request_timeout_s`. Answers that are not streamed come when they are finished, and have only that limit."""
    hedge_after_ms: float = Field(default=0, ge=0)
    """Ask a second replica when the first has sent nothing for so long, and take the answer that comes first; 0 never
    does. Hedges take from the same budget."""


class Breaker(Strict):
    """When a server that answers with errors is left alone for a while."""

    failures: int = Field(default=5, gt=0)
    """Failures in a row that open the breaker."""
    open_s: float = Field(default=1.0, gt=0)
    """How long it stays open before one request is let through as a trial; doubled after each trial that fails."""
    most_open_s: float = Field(default=30.0, gt=0)
    """Longest that it stays open."""


class Queue(Strict):
    """Requests that wait while all replicas of an expert have as much to do as they take at once."""

    length: int = Field(default=256, ge=0)
    """Requests of one expert that may wait; more are refused with 429."""
    wait_s: float = Field(default=30.0, gt=0)
    """Longest wait; who waited in vain is refused with 503."""


class CanaryGuard(Strict):
    """Taking a canary out of use that fails or answers badly, beyond doubt, while no controller looks after its
    rollout."""

    enabled: bool = True
    """Whether the gateway does that by itself; without it, only controllers and people do."""
    after_s: float = Field(default=30.0, gt=0)
    """How long nothing may be heard of a controller until the gateway decides by itself."""
