"""Ask a second expert the same, and throw its answer away: what it would do with real traffic shows in its metrics.

A shadow never delays, changes or fails the request that it belongs to, and there are never many at once: beyond that,
and while the expert is busy or down, shadows are left out and counted as such.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from largeforge.gateway.access import Exchange
from largeforge.gateway.errors import ApiError
from largeforge.gateway.upstream import UpstreamDied, UpstreamFailed

if TYPE_CHECKING:
    from largeforge.gateway.live import Generation
    from largeforge.gateway.metrics import Metrics
    from largeforge.gateway.request import Request

MOST = 32
"""Shadows at once."""


class Shadows:
    """The shadows of a gateway."""

    def __init__(self, metrics: Metrics):
        self._metrics = metrics
        self._running: set[asyncio.Task[None]] = set()

    def begin(self, now: Generation, expert: str, request: Request, head: bytes, exchange: Exchange) -> None:
        """Ask an expert beside the one that answers; returns at once."""
        if len(self._running) >= MOST:
            self._metrics.shadows.labels(expert, "left-out").inc()
            return
        task = asyncio.create_task(self._ask(now, expert, request, head, exchange))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def stop(self) -> None:
        """Cancel those that are still running."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _ask(self, now: Generation, expert: str, request: Request, head: bytes, exchange: Exchange) -> None:
        outcome = "failed"
        own = Exchange(exchange.request_id, exchange.started, trace=exchange.trace, is_shadow=True)
        try:
            async with asyncio.timeout(now.file.gateway.request_timeout_s):
                answering = await now.dispatch.ask(now.targets[expert], request, head, own)
                try:
                    if answering.reply.is_stream:
                        async for _ in answering.chunks():
                            pass
                    outcome = "answered" if answering.reply.status < 400 else "refused"
                finally:
                    answering.close()
        except (UpstreamFailed, UpstreamDied, TimeoutError):
            pass
        except ApiError:
            outcome = "left-out"
        finally:
            self._metrics.shadows.labels(expert, outcome).inc()
