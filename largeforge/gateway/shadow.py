"""Ask a second expert the same, or an expert's canary, and keep its answer from the client: what it would do with real
traffic shows in its metrics, and whether it agrees in those of quality.

A shadow never delays, changes or fails the request that it belongs to, and there are never many at once: beyond that,
and while the expert is busy or down, shadows are left out and counted as such. What a canary makes of its copies is
counted for its side, as if it had answered.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from largeforge.gateway.access import Exchange
from largeforge.gateway.backend import CANARY
from largeforge.gateway.errors import ApiError
from largeforge.gateway.kinds import WRITTEN
from largeforge.gateway.pace import Pace
from largeforge.gateway.quality.service import MOST_ANSWER_BYTES, Answer
from largeforge.gateway.upstream import UpstreamDied, UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from largeforge.gateway.arms import Arms
    from largeforge.gateway.dispatch import Answering
    from largeforge.gateway.live import Generation
    from largeforge.gateway.metrics import Metrics
    from largeforge.gateway.quality.service import Quality, Seen
    from largeforge.gateway.request import Request

MOST = 32
"""Shadows at once."""


class Shadows:
    """The shadows of a gateway."""

    def __init__(self, metrics: Metrics, quality: Quality, arms: Arms, clock: Callable[[], float]):
        self._metrics, self._quality, self._arms, self._clock = metrics, quality, arms, clock
        self._running: set[asyncio.Task[None]] = set()

    def begin(
        self, now: Generation, expert: str, request: Request, head: bytes, exchange: Exchange, seen: Seen | None
    ) -> None:
        """Ask an expert, or with `CANARY` behind its name its canary, beside the one that answers; returns at once.
        `seen` is told its answer."""
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
        name = expert.removesuffix(CANARY)
        own = Exchange(exchange.request_id, exchange.started, name, trace=exchange.trace, is_shadow=True)
        own.status, own.error = 502, "expert_down"
        if name != expert:
            own.rolled_out, own.arm = name, "canary"
        try:
            async with asyncio.timeout(now.file.gateway.request_timeout_s):
                answering = await now.dispatch.ask(now.targets[expert], request, head, own)
                try:
                    body = await self._read(answering, own)
                    outcome = "answered" if answering.reply.status < 400 else "refused"
                    own.status, own.error = answering.reply.status, ""
                    if own.arm and own.status == 200 and request.kind in WRITTEN and not answering.reply.is_stream:
                        own.true_status = answering.reply.true_status()
                    if seen is not None and body is not None and (own.status == 200 or (own.arm and own.status != 429)):
                        self._quality.shadowed(seen, _answer(answering, own, body))
                finally:
                    answering.close()
        except (UpstreamFailed, UpstreamDied, TimeoutError):
            pass
        except (ApiError, asyncio.CancelledError) as error:
            outcome = "left-out"
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            self._metrics.shadows.labels(expert, outcome).inc()
            if own.arm and outcome != "left-out":
                self._arms.observe(own)

    async def _read(self, answering: Answering, own: Exchange) -> bytes | None:
        """Return an answer, None where it is too long to be compared."""
        if not answering.reply.is_stream:
            return answering.reply.body if len(answering.reply.body) <= MOST_ANSWER_BYTES else None
        pieces, size, pace = [], 0, Pace(lambda _: None, self._clock)
        async for piece in answering.chunks():
            pace.piece(piece)
            size += len(piece)
            if size <= MOST_ANSWER_BYTES:
                pieces.append(piece)
        own.first_token_at, own.true_status = pace.first_token_at, pace.true_status()
        return b"".join(pieces) if size <= MOST_ANSWER_BYTES else None


def _answer(answering: Answering, own: Exchange, body: bytes) -> Answer:
    replica = answering.replica
    return Answer(
        replica.expert, replica.model, body, answering.reply.is_stream, side=replica.arm, is_counted=bool(own.arm),
        is_copy=True, is_refused=own.status != 200,
    )  # fmt: skip
