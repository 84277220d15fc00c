"""How many replicas each number asks for.

Numbers for each replica ask for as many as bring them to their target, and so do shares of what replicas have, as in
Kubernetes' HorizontalPodAutoscaler, which also leaves everything as it is within a tolerance around the target. What
is in flight counts together with what waits, as Ray Serve counts it ("ongoing requests":
https://docs.ray.io/en/latest/serve/advanced-guides/advanced-autoscaling.html), though no further than `pace.py` says.
Latencies and queues that are too long ask for one more than there is: by how much they are too long says little about
how many more would help.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from largeforge.autoscale.observations import Observation
    from largeforge.autoscale.targets import Target


@dataclass(frozen=True)
class Need:
    """How many replicas one number asks for."""

    name: str
    replicas: int
    load: float
    """What is asked of the ready replicas, as a multiple of what they are meant for."""
    reason: str


def needs(
    targets: Sequence[Target],
    seen: Observation,
    asked: float,
    *,
    wanted: int,
    tolerance: float,
    is_settled: bool = True,
) -> list[Need]:
    """Return what each target asks for; those that nothing is known of ask for nothing.

    `asked` is what would be in flight if replicas kept up. Replicas that came just now are not settled: latencies and
    queues are still those from before them.
    """
    found = (_need(target, seen, asked, wanted, tolerance, is_settled) for target in targets)
    return [need for need in found if need is not None]


def of_demand(demand: float, targets: Sequence[Target], *, wanted: int, tolerance: float) -> int:
    """Return the replicas that so many requests in flight ask for."""
    each = next(target.value for target in targets if target.kind == "in_flight")
    return _rounded(demand / each, wanted, tolerance)


def _need(
    target: Target, seen: Observation, asked: float, wanted: int, tolerance: float, is_settled: bool
) -> Need | None:
    match target.kind:
        case "in_flight":
            reason = f"{seen.in_flight:.0f} requests in flight"
            if seen.waiting:
                reason += f", {asked:.0f} if none had to wait"
            return _as_many(target, seen, asked / target.value, wanted, tolerance, reason)
        case "cache_use" if seen.cache_use is not None:
            return _share(target, seen, seen.cache_use, wanted, tolerance, "of the KV cache in use")
        case "gpu_use" if seen.gpu_use is not None:
            return _share(target, seen, seen.gpu_use, wanted, tolerance, "GPU use")
        case "waiting" if seen.waiting:
            load = seen.waiting / (max(1, seen.ready) * target.value)
            reason = f"{seen.waiting:.0f} requests wait"
            reason = reason if seen.ready else f"{reason} and no replica is ready"
            return _guard(target.name, seen, load, 0.0, reason, is_settled)
        case "latency" if (time := seen.latencies_ms.get(target.name)) and seen.in_flight >= seen.ready:
            name = f"p{100 * target.percentile:g} of {target.indicator}"
            reason = f"{name} is {time:.0f} ms of {target.value:.0f} ms"
            return _guard(target.name, seen, time / target.value, tolerance, reason, is_settled)
    return None


def _share(
    target: Target, seen: Observation, used: float, wanted: int, tolerance: float, what: str
) -> Need | None:  # fmt: skip
    """Return what a share of what ready replicas have asks for."""
    asked = seen.ready * used / target.value
    return _as_many(target, seen, asked, wanted, tolerance, f"{used:.0%} {what}")


def _as_many(
    target: Target, seen: Observation, asked: float, wanted: int, tolerance: float, reason: str
) -> Need:  # fmt: skip
    return Need(target.name, _rounded(asked, wanted, tolerance), asked / max(1, seen.ready), reason)


def _guard(name: str, seen: Observation, load: float, tolerance: float, reason: str, is_settled: bool) -> Need | None:
    """Return one more than is ready beyond a limit, and what is ready close to it."""
    if not seen.ready or (is_settled and load > 1 + tolerance):
        return Need(name, seen.ready + 1, 0.0, reason)
    return Need(name, seen.ready, 0.0, reason) if load > 1 - tolerance else None


def _rounded(asked: float, wanted: int, tolerance: float) -> int:
    """Return whole replicas; as many as are wanted already where that is within tolerance."""
    if wanted and abs(asked / wanted - 1) <= tolerance:
        return wanted
    return math.ceil(asked)
