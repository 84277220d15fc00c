"""Let so many requests to a server at once as it takes, and have the others wait their turn, but not for ever."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from largeforge.gateway.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from largeforge.gateway.backend import Backend, Replica
    from largeforge.gateway.metrics import Waited
    from largeforge.recipe.sections.resilience import Queue

Pick = Callable[[], "Replica | None"]
"""Returns a replica with room, or None; raises when there is nothing to wait for."""


class Waiting:
    """The queues of all experts."""

    def __init__(self, settings: Queue, *, told: Callable[[str, Waited, float], None]):
        self.settings = settings
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}
        """Those for whose experts somebody waits."""
        self._told = told

    async def enter(self, expert: str, pick: Pick, *, is_known: bool = False) -> Replica:
        """Return a replica that has room, and count the request as its own; wait while there is none.

        A request that `is_known` was let in before and lost by its server; it goes ahead of those that wait.

        Raises ApiError: 429 when too many wait already, 503 when the wait was too long. Raises what `pick` raises.
        """
        queue, replica = self._queues.get(expert), pick()
        if not queue and replica is not None:
            return _taken(replica)
        if queue is None:
            queue = self._queues[expert] = deque()
        if len(queue) >= self.settings.length and not is_known:
            self._told(expert, "full", 0.0)
            message = f"Expert '{expert}' is busy and {len(queue)} requests wait already."
            raise ApiError(429, message, code="overloaded", retry_after_s=1)
        return await self._wait(expert, queue, pick, is_known)

    def leave(self, backend: Backend) -> None:
        """Note that a request to a server is done; who waits for the server gets its turn."""
        backend.give_back()
        self.wake(backend.experts)

    def wake(self, experts: Iterable[str]) -> None:
        """Let the first that wait for experts look again."""
        if not self._queues:
            return
        for expert in experts:
            if queue := self._queues.get(expert):
                for waiter in queue:
                    if not waiter.done():
                        waiter.set_result(None)
                        break

    def wake_all(self) -> None:
        """Let the first of every queue look again."""
        self.wake(list(self._queues))

    def length(self, expert: str) -> int:
        """Return how many requests wait for an expert."""
        return len(self._queues.get(expert, ()))

    def total(self) -> int:
        """Return how many requests wait."""
        return sum(map(len, self._queues.values()))

    async def _wait(self, expert: str, queue: deque[asyncio.Future[None]], pick: Pick, is_first: bool) -> Replica:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.settings.wait_s
        waiter = loop.create_future()
        if is_first:
            queue.appendleft(waiter)
        else:
            queue.append(waiter)
        began = loop.time()
        outcome: Waited = "left"
        try:
            while True:
                async with asyncio.timeout_at(deadline):
                    await waiter
                if queue[0] is waiter and (replica := pick()) is not None:
                    outcome = "served"
                    return _taken(replica)
                place = queue.index(waiter)
                waiter = queue[place] = loop.create_future()
        except TimeoutError:
            outcome = "timeout"
            message = f"Expert '{expert}' had no room for {self.settings.wait_s:g} s, and the request still waited."
            raise ApiError(503, message, code="overloaded", retry_after_s=self.settings.wait_s) from None
        finally:
            queue.remove(waiter)
            if not queue:
                del self._queues[expert]
            self._told(expert, outcome, loop.time() - began)
            self.wake((expert,))  # the next may find room as well


def _taken(replica: Replica) -> Replica:
    replica.backend.take()
    replica.backend.breaker.begin()
    return replica
