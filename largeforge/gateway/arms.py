"""Two models of one expert side by side: who gets the new one, and what is counted of each.

A canary that fails before its answer has begun costs the client nothing: stable answers in its place, and the failure
still counts against the canary. So does its refusal of what stable then answers; what both refuse counts for neither.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

import orjson

from largeforge.gateway import identity
from largeforge.gateway.sticky import Division

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from largeforge.gateway.access import Exchange
    from largeforge.gateway.crew.whole import Whole
    from largeforge.gateway.request import Request
    from largeforge.recipe.schema import Topology

BOUNDS_S = tuple(round(0.005 * 1.15**step, 6) for step in range(80))
"""Bounds of the histograms: 15 % apart from 5 ms to 5 minutes, so that a latency a fifth higher is seen."""
ARMS = "arms"
"""Question that workers ask each other."""
NOT_OF_THE_MODEL = ("client_closed", "expert_isolated", "tenant_isolated", "shutting_down")
"""Errors that say nothing of who answered."""


class Split:
    """Decides for one topology whose requests a canary answers: always the same users, and more with a larger share."""

    def __init__(self, topology: Topology, random: Callable[[], float]):
        self._sticky, self._salt, self._random = topology.sticky, topology.salt, random
        self._divisions: dict[str, Division] = {}

    def takes(self, expert: str, request: Request, share: float) -> bool:
        """Return whether the canary of an expert answers a request, when it gets a share from 0 to 1."""
        if share <= 0:
            return False
        division = self._divisions.get(expert)
        if division is None:
            division = self._divisions[expert] = Division(f"canary {expert}", self._salt, self._random)
        return division.place(identity.sticky(request, self._sticky)) < share

    def copies(self, share: float) -> bool:
        """Return whether a canary gets a copy of a request, when it gets a share from 0 to 1."""
        return share > 0 and self._random() < share


class Tally:
    """What was counted of one side of one expert; counts only rise."""

    __slots__ = ("duration", "errors", "quality", "requests", "ttft")

    def __init__(self) -> None:
        self.requests = self.errors = 0
        self.duration, self.ttft = [0] * (len(BOUNDS_S) + 1), [0] * (len(BOUNDS_S) + 1)
        self.quality: dict[str, list[int]] = {}
        """By signal, good ones and all."""

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data, as `rollout.observations.Arm` reads it."""
        quality = {signal: {"good": good, "total": total} for signal, (good, total) in self.quality.items()}
        return {
            "requests": self.requests, "errors": self.errors,
            "duration": {"edges": list(BOUNDS_S), "counts": list(self.duration)},
            "ttft": {"edges": list(BOUNDS_S), "counts": list(self.ttft)}, **quality,
        }  # fmt: skip


class Arms:
    """The counts of all experts that have a canary."""

    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        self._tallies: dict[str, dict[str, Tally]] = {}

    def observe(self, exchange: Exchange) -> None:
        """Count a finished request of an expert with a canary."""
        status = exchange.true_status or exchange.status
        if exchange.error in NOT_OF_THE_MODEL or 400 <= status < 500:
            return
        has_failed = bool(exchange.error) or status >= 500
        if exchange.is_refused and (has_failed or exchange.expert != exchange.rolled_out):
            return  # stable did not say whose mistake it was
        tally = self._of(exchange.rolled_out, exchange.arm)
        tally.requests += 1
        if has_failed or not self.side(exchange):
            tally.errors += 1
            return
        _add(tally.duration, self._clock() - exchange.started)
        if exchange.first_token_at is not None:
            _add(tally.ttft, exchange.first_token_at - exchange.started)

    @staticmethod
    def side(exchange: Exchange) -> str:
        """Return the side whose answer a client got, empty where it says nothing of either."""
        is_replaced = exchange.is_lost or exchange.expert != exchange.rolled_out
        return "" if is_replaced else exchange.arm

    def judge(self, expert: str, arm: str, signal: str, *, is_good: bool) -> None:
        """Count a judgement of an answer of one side."""
        found = self._of(expert, arm).quality.setdefault(signal, [0, 0])
        found[0] += is_good
        found[1] += 1

    def tallies(self) -> Iterator[tuple[str, str, Tally]]:
        """Yield the counts of this process with their expert and their side."""
        for expert, arms in self._tallies.copy().items():  # a thread that renders metrics may be who reads
            for arm, tally in arms.items():
                yield expert, arm, tally

    def as_json(self) -> dict[str, Any]:
        """Return the counts of this process by expert and side, as plain data."""
        return {expert: {arm: tally.as_json() for arm, tally in arms.items()} for expert, arms in self._tallies.items()}

    async def for_others(self, _: bytes) -> bytes:
        """Answer another worker with the counts of this one."""
        return orjson.dumps(self.as_json())

    def _of(self, expert: str, arm: str) -> Tally:
        arms = self._tallies.setdefault(expert, {"canary": Tally(), "stable": Tally()})
        return arms[arm]


async def by_worker(whole: Whole) -> dict[int, dict[str, Any]]:
    """Return the counts of each worker by its number; one that does not answer is left out."""
    return {worker: orjson.loads(said) for worker, said in (await whole.ask(ARMS)).items()}


def summed(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the counts of several processes as one."""
    whole: dict[str, Any] = {}
    for part in parts:
        whole = _sum(whole, part) if whole else dict(part)
    return whole


def _sum(one: Any, other: Any, key: str = "") -> Any:
    if isinstance(one, dict):
        shared = {name: _sum(one[name], other[name], name) for name in one.keys() & other.keys()}
        return {**one, **other, **shared}
    if key == "edges":
        return one
    return [a + b for a, b in zip(one, other, strict=True)] if isinstance(one, list) else one + other


def _add(counts: list[int], time_s: float) -> None:
    counts[bisect_left(BOUNDS_S, time_s)] += 1
