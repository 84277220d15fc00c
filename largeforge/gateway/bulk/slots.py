"""How many lines may be answered at once: fewer while others are being answered, but never none.

Whoever waits first gets the next slot, so that several batches share them evenly.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

LOOK_AGAIN_S = 0.05
"""How often a line that yields looks whether the others have gone."""


class Slots:
    """The slots of all batches together.

    `num_others` says how many requests of others are running, `is_paused` whether batches are to rest.
    """

    def __init__(self, num_slots: int, num_others: Callable[[], int], is_paused: Callable[[], bool] = lambda: False):
        self._num_slots = num_slots
        self._num_others = num_others
        self._is_paused = is_paused
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()
        self.running = 0

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Hold a slot."""
        async with self._turn:
            while self.running >= self._allowed():
                self._freed.clear()
                try:
                    async with asyncio.timeout(LOOK_AGAIN_S):
                        await self._freed.wait()
                except TimeoutError:
                    pass
            self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._freed.set()

    def _allowed(self) -> int:
        return 0 if self._is_paused() else max(1, self._num_slots - self._num_others())
