"""Choose one of an expert's replicas for a request.

`least_outstanding` takes the one with the fewest unfinished requests. `prefix` takes the one that most likely has the
beginning of the conversation in its KV cache: beginnings are spread over replicas by consistent hashing, and a replica
that has more than its share of the load passes on to the next (consistent hashing with bounded loads,
arXiv:1608.01350).
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from largeforge.gateway.backend import Replica
    from largeforge.gateway.request import Request
    from largeforge.recipe.sections.resilience import Balance

Choose = Callable[[Sequence["Replica"], "Request"], "Replica"]

POINTS = 64
"""Points of each replica on the circle."""
BOUND = 1.25
"""Share of the mean load that a replica may have before the next one takes over."""
PREFIX_CHARS = 4096
"""Characters that tell one beginning from another; a conversation goes on with the same."""


def chooser(name: Balance) -> Choose:
    """Return the function that chooses; it is never called without a replica."""
    return LeastOutstanding() if name == "least_outstanding" else Prefix()


class LeastOutstanding:
    """The replica with the fewest unfinished requests; ties are taken in turns."""

    def __init__(self) -> None:
        self._turn = itertools.count()

    def __call__(self, replicas: Sequence[Replica], request: Request) -> Replica:
        """Return the replica for a request."""
        if len(replicas) == 1:
            return replicas[0]
        least = min(replica.backend.load for replica in replicas)
        idle = [replica for replica in replicas if replica.backend.load == least]
        return idle[next(self._turn) % len(idle)]


class Prefix:
    """The replica that answered the same beginning before."""

    def __init__(self) -> None:
        self._circles: dict[tuple[str, ...], tuple[list[int], list[int]]] = {}

    def __call__(self, replicas: Sequence[Replica], request: Request) -> Replica:
        """Return the replica for a request."""
        if len(replicas) == 1:
            return replicas[0]
        places, owners = self._circle(tuple(replica.url for replica in replicas))
        total = sum(replica.backend.load for replica in replicas) + 1
        most = math.ceil(BOUND * total / len(replicas))
        start = bisect.bisect(places, _hash(beginning(request.payload)))
        for step in range(len(places)):
            replica = replicas[owners[(start + step) % len(places)]]
            if replica.backend.load < most:
                return replica
        raise AssertionError("the mean is never below every load")

    def _circle(self, urls: tuple[str, ...]) -> tuple[list[int], list[int]]:
        """Return the places of all replicas on the circle, and whose each is."""
        if urls not in self._circles:
            if len(self._circles) > 1000:  # sets of replicas that are well, as they came and went
                self._circles.clear()
            points = sorted(
                (_hash(f"{url} {point}"), index) for index, url in enumerate(urls) for point in range(POINTS)
            )
            self._circles[urls] = ([place for place, _ in points], [index for _, index in points])
        return self._circles[urls]


def beginning(payload: dict[str, Any]) -> str:
    """Return the part of a request that the later requests of its conversation share: up to its first user message."""
    if "messages" not in payload:
        return repr(payload.get("prompt"))[:PREFIX_CHARS]
    parts = []
    for message in payload["messages"]:
        parts.append(f"{message.get('role')}: {message.get('content')}")
        if message.get("role") == "user":
            break
    return "\n".join(parts)[:PREFIX_CHARS]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())
