"""Ask a second expert the same, and keep its answer from the client: what it would do with real traffic shows in its
metrics, and whether it agrees in those of quality.

A shadow never delays, changes or fails the request that it belongs to, and there are never many at once: beyond that,
and while the expert is busy or down, shadows are left out and counted as such.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from largeforge.gateway.access import Exchange
from largeforge.gateway.errors import ApiError
from largeforge.gateway.quality.service import MOST_ANSWER_BYTES
from largeforge.gateway.upstream import UpstreamDied, UpstreamFailed

if TYPE_CHECKING:
    from largeforge.gateway.dispatch import Answering
    from largeforge.gateway.live import Generation
    from largeforge.gateway.metrics import Metrics
    from largeforge.gateway.quality.service import Quality, Seen
    from largeforge.gateway.request import Request

MOST = 32
"""Shadows at once."""


class Shadows:
    """The shadows of a gateway."""

    def __init__(self, metrics: Metrics, quality: Quality):
        self._metrics, self._quality = metrics, quality
        self._running: set[asyncio.Task[None]] = set()

    def begin(
        self, now: Generation, expert: str, request: Request, head: bytes, exchange: Exchange, seen: Seen | None
    ) -> None:
        """Ask an expert beside the one that answers; returns at once. `seen` is told its answer."""
        if len(self._running) >= MOST:
            self._metrics.shadows.labels(expert, "left-out").inc()
            return
        task = asyncio.create_task(self._ask(now, expert, request, head, exchange, seen))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def stop(self) -> None:
        """Cancel those that are still running."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _ask(
        self, now: Generation, expert: str, request: Request, head: bytes, exchange: Exchange, seen: Seen | None
    ) -> None:
        outcome = "failed"
        own = Exchange(exchange.request_id, exchange.started, trace=exchange.trace, is_shadow=True)
        try:
            async with asyncio.timeout(now.file.gateway.request_timeout_s):
                answering = await now.dispatch.ask(now.targets[expert], request, head, own)
                try:
                    body = await _read(answering)
                    outcome = "answered" if answering.reply.status < 400 else "refused"
                    if seen is not None and body is not None and answering.reply.status == 200:
                        model, is_stream = answering.replica.model, answering.reply.is_stream
                        self._quality.shadowed(seen, expert, model, body, is_stream=is_stream)
                finally:
                    answering.close()
        except (UpstreamFailed, UpstreamDied, TimeoutError):
            pass
        except ApiError:
            outcome = "left-out"
        finally:
            self._metrics.shadows.labels(expert, outcome).inc()


async def _read(answering: Answering) -> bytes | None:
    """Return an answer, None where it is too long to be compared."""
    if not answering.reply.is_stream:
        return answering.reply.body if len(answering.reply.body) <= MOST_ANSWER_BYTES else None
    pieces, size = [], 0
    async for piece in answering.chunks():
        size += len(piece)
        if size <= MOST_ANSWER_BYTES:
            pieces.append(piece)
    return b"".join(pieces) if size <= MOST_ANSWER_BYTES else None
