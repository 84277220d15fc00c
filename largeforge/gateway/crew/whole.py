"""The gateway as a whole, asked at any one of its workers: its metrics, how much it has to do, and more."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

from largeforge.gateway.crew.merging import merged
from largeforge.gateway.crew.peers import Peers

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from largeforge.gateway.crew.peers import Answer
    from largeforge.gateway.crew.worker import Place


class Whole:
    """One gateway of one process, or of several; enter it to take part."""

    def __init__(self, place: Place | None, *, metrics: Callable[[], bytes], in_flight: Callable[[], int]):
        """Take this process's place among workers, its metrics, and how many answers it gives."""
        self._metrics, self._in_flight = metrics, in_flight
        self._stack = AsyncExitStack()
        self._answers: dict[str, Answer] = {"metrics": self._own_metrics, "in_flight": self._own_in_flight}
        self._peers = None if place is None else Peers(place.folder, place.worker, self._answers)

    def answer(self, question: str, answer: Answer) -> None:
        """Have a further question answered."""
        self._answers[question] = answer

    async def __aenter__(self) -> Self:
        if self._peers is not None:
            await self._stack.enter_async_context(self._peers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def ask(self, question: str, about: bytes = b"") -> dict[int, bytes]:
        """Return what all workers answer, this one included, by their numbers."""
        if self._peers is None:
            return {0: await self._answers[question](about)}
        return await self._peers.ask(question, about)

    async def metrics(self) -> bytes:
        """Return the page that Prometheus scrapes."""
        pages = await self.ask("metrics")
        return pages[0] if self._peers is None else merged(pages)

    async def in_flight(self) -> int:
        """Return how many answers are in progress."""
        return sum(int(answer) for answer in (await self.ask("in_flight")).values())

    async def _own_metrics(self, _: bytes) -> bytes:
        return await asyncio.to_thread(self._metrics)  # it takes a while where there are many experts

    async def _own_in_flight(self, _: bytes) -> bytes:
        return b"%d" % self._in_flight()
