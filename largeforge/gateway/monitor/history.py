"""A ring of the last ten minutes by the second, and the counters as they were at times within the last five."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Self

from largeforge.gateway.monitor.reading import Reading, read, totals

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from largeforge.gateway.metrics import Metrics

SECONDS = 600
"""Length of the ring."""
WINDOW_S = 300
"""What percentiles are of."""
READ_EVERY_S = 10
"""How often the counters are kept to look back at."""


class Second(NamedTuple):
    """What happened in one second."""

    second: int
    """When it began, in seconds since the epoch."""
    requests: float
    """Requests that ended."""
    failed: float
    tokens: float
    """Tokens that answers had which ended."""
    in_flight: int
    """Requests being answered, at its end."""
    queued: int
    """Requests that waited for a busy expert, at its end."""


class History:
    """Looks every second; enter it to begin."""

    def __init__(
        self,
        *,
        metrics: Metrics,
        in_flight: Callable[[], int],
        queued: Callable[[], int],
        wall_clock: Callable[[], float],
    ):
        self.started = wall_clock()
        self.seconds: deque[Second] = deque(maxlen=SECONDS)
        self._kept: deque[tuple[float, Reading]] = deque([(self.started, Reading())], maxlen=WINDOW_S // READ_EVERY_S)
        self._metrics, self._in_flight, self._queued = metrics, in_flight, queued
        self._wall_clock = wall_clock
        self._last = (0.0, 0.0, 0.0)
        self._ticking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._ticking = asyncio.create_task(self._tick())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._ticking is not None
        self._ticking.cancel()
        with suppress(asyncio.CancelledError):
            await self._ticking

    def total(self) -> Reading:
        """Return what happened since the start."""
        return read(self._metrics)

    def window(self) -> tuple[float, Reading]:
        """Return what happened lately, and within how many seconds: about `WINDOW_S`, less after the start."""
        since, before = self._kept[0]
        return max(0.001, self._wall_clock() - since), self.total().plus(before, -1)

    def look(self) -> None:
        """Note what happened since the last time; called once a second."""
        now, total = self._wall_clock(), totals(self._metrics)
        requests, failed, tokens = (max(0.0, new - old) for new, old in zip(total, self._last, strict=True))
        self._last = total
        self.seconds.append(Second(int(now) - 1, requests, failed, tokens, self._in_flight(), self._queued()))
        if now - self._kept[-1][0] >= READ_EVERY_S - 0.5:
            self._kept.append((now, read(self._metrics)))

    async def _tick(self) -> None:
        while True:
            now = self._wall_clock()
            await asyncio.sleep(int(now) + 1 - now)
            self.look()
