"""The gateway as a whole, asked at any one of its workers: its metrics and how much it has to do."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self

import orjson

from largeforge.gateway.arms import summed
from largeforge.gateway.crew.merging import merged
from largeforge.gateway.crew.peers import Peers

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from largeforge.gateway.crew.worker import Place


class Whole:
    """One gateway of one process, or of several; enter it to take part."""

    def __init__(
        self,
        place: Place | None,
        *,
        metrics: Callable[[], bytes],
        in_flight: Callable[[], int],
        arms: Callable[[], dict[str, Any]],
    ):
        """Take this process's place among workers, its metrics, how many answers it gives, and its counts of
        canaries."""
        self._metrics, self._in_flight, self._arms = metrics, in_flight, arms
        self._stack = AsyncExitStack()
        self._peers: Peers | None = None
        if place is not None:
            self._peers = Peers(
                place.folder,
                place.worker,
                {"metrics": self._own_metrics, "in_flight": self._own_in_flight, "arms": self._own_arms},
            )

    async def __aenter__(self) -> Self:
        if self._peers is not None:
            await self._stack.enter_async_context(self._peers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def metrics(self) -> bytes:
        """Return the page that Prometheus scrapes."""
        if self._peers is None:
            return await self._own_metrics()
        return merged(await self._peers.ask("metrics"))

    async def in_flight(self) -> int:
        """Return how many answers are in progress."""
        if self._peers is None:
            return self._in_flight()
        return sum(int(answer) for answer in (await self._peers.ask("in_flight")).values())

    async def arms(self) -> dict[str, Any]:
        """Return what was counted of each side of experts with a canary."""
        if self._peers is None:
            return self._arms()
        return summed(map(orjson.loads, (await self._peers.ask("arms")).values()))

    async def _own_arms(self) -> bytes:
        return orjson.dumps(self._arms())

    async def _own_metrics(self) -> bytes:
        return await asyncio.to_thread(self._metrics)  # it takes a while where there are many experts

    async def _own_in_flight(self) -> bytes:
        return b"%d" % self._in_flight()
