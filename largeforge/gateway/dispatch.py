"""Get an answer from one expert: the right replica, another one when it fails, a second one when it is slow.

All of it ends with the first byte of the answer: whatever fails later is the client's to know. Further attempts, hedges
included, come out of one budget; only requests that a dead server lost are moved without, since that adds to no load.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from largeforge.gateway import upstream
from largeforge.gateway.balance import chooser
from largeforge.gateway.budget import RetryBudget
from largeforge.gateway.health import describe
from largeforge.gateway.kinds import UPSTREAM_PATHS
from largeforge.gateway.upstream import UpstreamDied, UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from largeforge.gateway.access import Exchange
    from largeforge.gateway.backend import Backend, Replica, Target
    from largeforge.gateway.health import Health
    from largeforge.gateway.metrics import Metrics
    from largeforge.gateway.request import Request
    from largeforge.gateway.tracing import Attempt
    from largeforge.gateway.upstream import Reply
    from largeforge.gateway.waiting import Waiting
    from largeforge.recipe.schema import Gateway


CLOCK_S = 0.05
"""How much earlier than asked a timer may end a request."""


@dataclass
class Answering:
    """A reply and the replica that gives it; close it, whatever happened."""

    replica: Replica
    reply: Reply
    _dispatch: Dispatch
    _exchange: Exchange
    _gives_up_at: float
    _attempt: Attempt | None = None
    """Its span, where there are traces."""
    _is_open: bool = True
    _has_died: bool = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield a stream's bytes; raises UpstreamDied when it breaks off, which counts against the server."""
        heard_at = time.monotonic()
        try:
            async for chunk in self.reply.chunks():
                heard_at = time.monotonic()
                yield chunk
            self.replica.backend.breaker.succeeded()
        except UpstreamDied:
            self._has_died = True
            self._dispatch.failed(self.replica, UpstreamFailed("reset"), "broke off a stream")
            raise
        except asyncio.CancelledError:
            if self._dispatch.is_hung(self._gives_up_at, silent_since=heard_at):
                self.replica.backend.breaker.failed()
            raise

    def close(self) -> None:
        """Give the replica's place to the next request."""
        if self._is_open:
            self._is_open = False
            if self._attempt is not None:
                error = "reset" if self._has_died else "" if self.reply.is_whole else "cancelled"
                self._attempt.end(error, self.reply.status, self._exchange.usage)
            self.reply.close()
            self._dispatch.waiting.leave(self.replica.backend)


@dataclass
class _Attempts:
    """What was tried for one request."""

    request: Request
    target: Target
    head: bytes
    exchange: Exchange
    further: int
    """Attempts that may still follow."""
    gives_up_at: float
    """When the gateway's own limit ends the request; never where its client waits for less than that."""
    waits: bool
    """Whether it waits for servers that are drained, where no others may be asked."""
    has_moved: bool = False
    """Whether a server that died lost it, so that it has waited its turn already."""
    tried: list[Backend] = field(default_factory=list)


class Dispatch:
    """Sends requests to the replicas of experts."""

    def __init__(
        self,
        settings: Gateway,
        health: Health,
        waiting: Waiting,
        metrics: Metrics,
        *,
        successor: Callable[[str], Target | None] = lambda name: None,
    ):
        """`successor` returns an expert as it is served since, for requests whose own servers are gone."""
        self.health, self.waiting = health, waiting
        self.hedges = True
        """Whether a second replica may be asked beside one that is slow."""
        self._metrics, self._successor = metrics, successor
        self._settings = settings.retries
        self._blame_s = settings.request_timeout_s / 2
        self._choose = chooser(settings.balance)
        self._budget = RetryBudget(settings.retries.budget)

    async def ask(
        self, target: Target, request: Request, head: bytes, exchange: Exchange, *, gives_up_at: float = math.inf,
        waits: bool = False,
    ) -> Answering:  # fmt: skip
        """Return the answer of one of the expert's replicas.

        A server that has sent nothing at `gives_up_at` (`time.monotonic`) has failed. Where it `waits`, a request
        for an expert whose servers are drained stays in the queue until there is one.

        Raises UpstreamFailed when none gave one, after adding to `exchange.failures` what each did, and ApiError when
        the expert is too busy.
        """
        self._budget.request()
        attempts = _Attempts(request, target, head, exchange, self._settings.most, gives_up_at, waits)
        while True:
            try:
                if self.hedges and self._settings.hedge_after_ms and len(target.replicas) > 1:
                    return await self._hedged(attempts)
                return await self._once(attempts)
            except UpstreamFailed as failure:
                attempts.has_moved = failure.kind in ("refused", "reset", "tls")
                if failure.kind == "down" or not self._may_go_on(attempts, "move" if attempts.has_moved else "retry"):
                    raise

    def failed(self, replica: Replica, failure: UpstreamFailed, reason: str) -> None:
        """Count a failure against a server."""
        replica.backend.breaker.failed()
        if failure.is_of_connection:
            self.health.mark_down(replica.backend, reason, failure.kind)

    def is_hung(self, gives_up_at: float, *, silent_since: float) -> bool:
        """Whether a request that ends now is ended by the gateway's limit, and its server let half of that pass."""
        now = time.monotonic()
        return now + CLOCK_S >= gives_up_at and now - silent_since >= self._blame_s

    async def _once(self, attempts: _Attempts) -> Answering:
        replica = await self.waiting.enter(
            attempts.target.name, lambda: self._pick(attempts), is_known=attempts.has_moved
        )
        backend, is_kept = replica.backend, False
        attempts.tried.append(backend)
        asked_at = time.monotonic()
        exchange = attempts.exchange
        exchange.attempts += 1
        exchange.replica = backend.url
        attempt = exchange.trace.ask(replica, attempts.request, exchange) if exchange.trace else None
        try:
            reply = await self._post(replica, attempts, attempts.head + attempt.head if attempt else attempts.head)
            if reply.is_stream:
                backend.breaker.streams()
            else:
                backend.breaker.succeeded()
            is_kept = True
            return Answering(replica, reply, self, exchange, attempts.gives_up_at, attempt)
        except UpstreamFailed as failure:
            reason = describe(failure)
            exchange.failures.append(f"'{attempts.target.name}' {reason}")
            if attempt:
                attempt.end(failure.kind, failure.status)
            self.failed(replica, failure, reason)
            raise
        except asyncio.CancelledError:
            if attempt:
                attempt.end("cancelled")
            if self.is_hung(attempts.gives_up_at, silent_since=asked_at):
                backend.breaker.failed()
            else:
                backend.breaker.dropped()
            raise
        finally:
            if not is_kept:
                self.waiting.leave(backend)

    async def _post(self, replica: Replica, attempts: _Attempts, head: bytes) -> Reply:
        """Send the request; only streams can be late with their first byte, other answers come when they are whole."""
        request, pool = attempts.request, replica.backend.pool
        body = request.body_for(replica.served_model)
        path = UPSTREAM_PATHS[request.kind].encode()
        if not self._settings.first_byte_timeout_s or not request.payload.get("stream"):
            return await upstream.post(pool, path, head, body)
        try:
            async with asyncio.timeout(self._settings.first_byte_timeout_s):
                return await upstream.post(pool, path, head, body)
        except TimeoutError as error:
            raise UpstreamFailed("timeout") from error

    async def _hedged(self, attempts: _Attempts) -> Answering:
        """Ask one replica, and a second one when the first takes too long; the answer that comes first counts."""
        running = {asyncio.create_task(self._once(attempts))}
        timeout_s: float | None = self._settings.hedge_after_ms / 1000
        failure: UpstreamFailed | None = None
        try:
            while running:
                done, running = await asyncio.wait(running, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
                if not done and timeout_s is not None and self._may_go_on(attempts, "hedge"):
                    running.add(asyncio.create_task(self._once(attempts)))
                timeout_s = None
                running |= {task for task in done if task.exception() is None}  # the first is taken, others are closed
                if answered := [task for task in running if task.done()]:
                    running.discard(answered[0])
                    return answered[0].result()
                for error in filter(None, (task.exception() for task in done)):
                    if not isinstance(error, UpstreamFailed):
                        raise error
                    if failure is None or error.kind != "down":
                        failure = error
            assert failure is not None
            raise failure
        finally:
            for task in running:
                task.cancel()
            for late in await asyncio.gather(*running, return_exceptions=True):
                if isinstance(late, Answering):  # it came as it was cancelled
                    late.close()

    def _may_go_on(self, attempts: _Attempts, why: str) -> bool:
        """Whether another replica may be asked, which is then counted."""
        if not attempts.further or not self._untried(attempts) or not self._budget.take(is_move=why == "move"):
            return False
        attempts.further -= 1
        self._metrics.retries.labels(attempts.target.name, why).inc()
        return True

    def _pick(self, attempts: _Attempts) -> Replica | None:
        """Return the replica to ask next, None while all that might be are full; raises when there is none."""
        well = self._untried(attempts)
        if not well and (successor := self._successor(attempts.target.name)):
            attempts.target = successor
            well = self._untried(attempts)
        if not well and attempts.waits and attempts.target.is_drained:
            return None
        if not well:
            attempts.exchange.failures.append(
                f"'{attempts.target.name}' {attempts.target.trouble or 'has no further replica'}"
            )
            raise UpstreamFailed("down")
        free = [replica for replica in well if replica.backend.has_room]
        return self._choose(free, attempts.request) if free else None

    @staticmethod
    def _untried(attempts: _Attempts) -> list[Replica]:
        return [one for one in attempts.target.replicas if one.backend not in attempts.tried and one.backend.is_well]
