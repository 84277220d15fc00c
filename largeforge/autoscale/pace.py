"""How much is asked of replicas, from how fast requests come and how long an answer takes.

What is in flight says how much is asked as long as nothing waits. A queue grows for as long as replicas take to
start, so that what waits says how long that was rather than how many replicas would keep up. Little's law does
(Little, 1961: in flight = rate x time): requests that come, and those that wait spread over half a minute, times what
an answer takes at the servers. Without it every start of 90 s would be answered by replicas that nobody needs once
the queue is gone (`scripts/bench autoscale`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from largeforge.autoscale.reading import number, optional

if TYPE_CHECKING:
    from largeforge.autoscale.observations import Observation

OVER_S = 15.0
"""Time over which rates are smoothed."""
DRAIN_S = 30.0
"""Time within which what waits is to be answered."""
SETTLED_S = 120.0
"""Time after which replicas that came have an effect on percentiles of the last minutes, and on queues."""


@dataclass(frozen=True)
class Pace:
    """What looks until now tell of requests."""

    demand: float = 0.0
    """In flight and waiting at the last look."""
    arrive: float = 0.0
    """Requests a second that come."""
    answered: float = 0.0
    """Requests a second that are answered."""
    in_flight: float = 0.0
    """At servers, smoothed as those two are."""
    answer_s: float = 0.0
    """What an answer takes at a server; 0 is not known."""
    ready: int = 0
    grown: float | None = None
    """When more replicas were ready than before."""

    def observed(self, seen: Observation, since_s: float, now: float) -> Pace:
        """Return it with one look more, so long after the last."""
        if since_s <= 0:
            return self
        weight = min(1.0, since_s / OVER_S)
        came = max(0.0, seen.requests + seen.demand - self.demand) / since_s
        answered = self.answered + weight * (seen.requests / since_s - self.answered)
        in_flight = self.in_flight + weight * (seen.in_flight - self.in_flight)
        return Pace(
            demand=seen.demand, arrive=self.arrive + weight * (came - self.arrive), answered=answered,
            in_flight=in_flight, answer_s=in_flight / answered if answered > 1e-3 else self.answer_s, ready=seen.ready,
            grown=now if seen.ready > self.ready else self.grown,
        )  # fmt: skip

    def asked(self, seen: Observation) -> float:
        """Return the requests that would be in flight if replicas kept up."""
        if not seen.waiting or not self.answer_s:
            return seen.demand
        keeping_up = (self.arrive + seen.waiting / DRAIN_S) * self.answer_s
        return max(seen.in_flight, min(seen.demand, keeping_up))

    def is_settled(self, now: float) -> bool:
        """Whether the replicas that are ready have been for a while."""
        return self.grown is None or now - self.grown >= SETTLED_S

    def as_json(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Pace:
        """Return what `as_json` gave."""
        grown, ready = optional(found["grown"]), int(number(found["ready"]))
        rates = {name: number(found[name]) for name in ("demand", "arrive", "answered", "in_flight", "answer_s")}
        return cls(**rates, ready=ready, grown=grown)
