"""Answer completion requests: read, route, ask the expert or who answers in its place, relay the bytes.

Another expert is tried only while nothing has reached the client. A server's 4xx is an answer and passes unchanged; its
5xx, a refused or broken connection, or bad health is a failure. What a canary refuses stable is asked as well, since a
new model may refuse what the old one answers.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from largeforge.gateway import deadline, tokens, tracing
from largeforge.gateway.backend import CANARY, header_value
from largeforge.gateway.errors import ApiError, internal_error
from largeforge.gateway.kinds import WRITTEN
from largeforge.gateway.link import AsgiLink
from largeforge.gateway.request import ClientGone, Request, parse
from largeforge.gateway.respond import Outbox, while_wanted
from largeforge.gateway.routing import Route
from largeforge.gateway.timers import Timers
from largeforge.gateway.upstream import UpstreamDied, UpstreamFailed

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from largeforge.gateway.access import Exchange
    from largeforge.gateway.admin.controls import Controls
    from largeforge.gateway.backend import Replica, Target
    from largeforge.gateway.dispatch import Answering
    from largeforge.gateway.kinds import Kind
    from largeforge.gateway.link import Link
    from largeforge.gateway.live import Generation, Live
    from largeforge.gateway.observer import Observer
    from largeforge.gateway.pace import Pace
    from largeforge.gateway.quality.service import Quality, Seen
    from largeforge.gateway.running import Running
    from largeforge.gateway.shadow import Shadows
    from largeforge.gateway.upstream import Reply

logger = logging.getLogger(__name__)

MOST_LINE_BYTES = 2**20
"""Longest unfinished line of a stream that is held back."""
MOST_TO_FAIL_S = 1.0
"""How long a client that does not read may keep the error waiting that ends its answer."""
CLIENT_CLOSED = 499
"""Status in logs and metrics when the client left before its answer; nginx's convention."""


@dataclass
class _Call:
    """One request on its way."""

    now: Generation
    """What was served when it came; it ends with that."""
    request: Request
    route: Route
    exchange: Exchange
    out: Outbox
    upstream_head: bytes
    """Header lines for the upstream."""
    seen: Seen | None
    """What is kept of it where its answer is judged afterwards."""
    gives_up_at: float = math.inf
    """When the gateway's limit ends it, by `time.monotonic`; never where its client waits for less."""
    refusal: tuple[Answering, Route] | None = None
    """What the canary said no with: the answer where nobody else gives one."""


class Proxy:
    """What answers one kind of completion; also an ASGI endpoint."""

    def __init__(
        self,
        kind: Kind,
        live: Live,
        *,
        controls: Controls,
        running: Running,
        quality: Quality,
        shadows: Shadows,
        observer: Observer,
    ):
        self._kind = kind
        self._live = live
        self._controls = controls
        self._running = running
        self._quality = quality
        self._shadows = shadows
        self._observer = observer
        self._longest: Timers | None = None
        """The timers of requests whose clients say nothing of the time that they have."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request that came over ASGI."""
        await self.answer(AsgiLink(scope, receive, send))

    async def answer(self, link: Link) -> None:
        """Answer one request in the present task; whatever happens is an answer and a count."""
        exchange = link.exchange
        out = Outbox(link, self._observer.clock)
        self._observer.begin(link)
        task = asyncio.current_task(self._live.loop)
        assert task is not None
        self._running.begin(task, link, out)
        try:
            self._controls.refuse(link.headers)
            await self._handle(task, link, out)
        except ApiError as error:
            await _fail(error, exchange, out)
        except ClientGone:
            out.status, exchange.error = CLIENT_CLOSED, "client_closed"
        except asyncio.CancelledError:
            task.uncancel()
            await _fail(out.refusal or _shutting_down(), exchange, out)
        except Exception:
            logger.exception("request %s failed", exchange.request_id)
            await _fail(internal_error(exchange.request_id), exchange, out)
        finally:
            self._running.end(task)
            exchange.status = out.status or 500
            exchange.first_byte_at = out.first_byte_at
            self._observer.end(exchange)

    async def _handle(self, task: asyncio.Task[Any], link: Link, out: Outbox) -> None:
        now, exchange = self._live.now, link.exchange
        max_bytes = int(now.file.gateway.max_body_mib * 2**20)
        request = parse(await link.body(max_bytes), self._kind, link.headers)
        state = self._controls.now
        route = now.tasks.route(request) or await now.routing.route(request, asks=state.mode != "degraded")
        has_shadow = bool(route.shadow) and not state.spares and route.shadow not in state.experts
        seen = self._quality.look(request, now.file.gateway.quality, has_shadow=has_shadow)
        call = _Call(now, request, route, exchange, out, _upstream_head(link), seen)
        if has_shadow:
            self._shadows.begin(now, route.shadow, request, call.upstream_head, exchange, seen)
        longest_s = now.file.gateway.request_timeout_s
        limit_s = deadline.limit_s(link.given, longest_s)
        timers = self._timers(limit_s)
        if limit_s == longest_s:
            call.gives_up_at = time.monotonic() + limit_s
            self._longest = timers
        work = self._answer(call)
        try:
            await while_wanted(work, link=link, worker=task, timers=timers)
        except TimeoutError:
            message = f"Expert '{exchange.expert}' did not finish its answer within {limit_s:g} s."
            raise ApiError(504, message, code="timeout") from None

    def _timers(self, limit_s: float) -> Timers:
        """Return the timers of a length: nearly all requests have the same, and share them."""
        if self._longest is not None and self._longest.length_s == limit_s:
            return self._longest
        return Timers(self._live.loop, limit_s)

    async def _answer(self, call: _Call) -> None:
        answering = await self._ask(call)
        try:
            await self._relay(call, answering)
        finally:
            answering.close()

    async def _ask(self, call: _Call) -> Answering:
        """Return the answer of the route's expert, or of the first in its place that gives one.

        When none does, and one is drained, which says that it comes back, the request waits for that one.
        """
        route, returning = call.route, []
        if route.fallback:
            self._observer.metrics.fallbacks.labels(route.fallback).inc()
        for expert in (route.expert, *call.now.fallbacks[route.expert]):
            if expert != call.route.expert:
                self._observer.metrics.fallbacks.labels("expert-down").inc()
                route = Route(expert, route.reason, call.route.requested, fallback="expert-down")
            if expert in self._controls.now.experts:
                call.exchange.failures.append(f"'{expert}' is isolated")
                last = UpstreamFailed("down")
                continue
            try:
                return await self._ask_one(call, route)
            except UpstreamFailed as failure:
                last = failure
                if call.now.targets[expert].is_drained:
                    returning.append(route)
        if returning:
            try:
                return await self._ask_one(call, returning[0], waits=True)
            except UpstreamFailed as failure:
                last = failure
        if call.refusal is not None:
            refusal, route = call.refusal
            call.exchange.replica = refusal.replica.url
            _note(call.exchange, refusal.replica, route)
            return refusal
        raise self._unavailable(call, last) from last

    async def _ask_one(self, call: _Call, route: Route, *, waits: bool = False) -> Answering:
        """Return the answer of one expert; raises UpstreamFailed when it gives none."""
        target = call.now.targets[route.expert]
        if not call.exchange.arm and (canary := call.now.targets.get(route.expert + CANARY)):
            share = self._controls.now.canaries.get(route.expert, 0.0)
            call.exchange.rolled_out = route.expert
            call.exchange.arm = "canary" if call.now.split.takes(route.expert, call.request, share) else "stable"
            if call.exchange.arm == "canary":
                with suppress(UpstreamFailed, ApiError):
                    answering = await self._ask_of(canary, call, route)
                    if not answering.reply.is_refusal:
                        return answering
                    _refuse(call, answering, route)
                call.exchange.is_lost = True
            elif not self._controls.now.spares and call.now.split.copies(
                self._controls.now.shadows.get(route.expert, 0.0)
            ):
                self._copy(call, canary)
        return await self._ask_of(target, call, route, waits=waits)

    def _copy(self, call: _Call, canary: Target) -> None:
        """Have a canary asked as well, for nobody."""
        call.seen = self._quality.beside_copy(call.request, call.seen)
        self._shadows.begin(call.now, canary.name, call.request, call.upstream_head, call.exchange, call.seen)

    async def _ask_of(self, target: Target, call: _Call, route: Route, *, waits: bool = False) -> Answering:
        _note(call.exchange, target.replicas[0], route)
        answering = await call.now.dispatch.ask(
            target, call.request, call.upstream_head, call.exchange, gives_up_at=call.gives_up_at, waits=waits
        )
        if answering.replica is not target.replicas[0]:
            _note(call.exchange, answering.replica, route)
        return answering

    def _unavailable(self, call: _Call, failure: UpstreamFailed) -> ApiError:
        """Return the error for a request that no expert could answer."""
        if failure.kind in ("connect-timeout", "timeout") or failure.status == 504:
            status = 504
        else:
            status = 503 if failure.kind == "down" or failure.status == 503 else 502
        retry_after_s: float | None = None
        if failure.retry_after.isdigit():
            retry_after_s = float(failure.retry_after)
        elif failure.kind != "status" or status == 503:
            retry_after_s = call.now.file.gateway.health_interval_s
        message = f"No expert could answer: {', '.join(call.exchange.failures)}."
        return ApiError(status, message, code="expert_down", retry_after_s=retry_after_s)

    async def _relay(self, call: _Call, answering: Answering) -> None:
        exchange = call.exchange
        if not answering.reply.is_stream:
            await self._relay_whole(call, answering.reply)
            return
        await call.out.stream(list(exchange.headers))
        pace = self._observer.pace(exchange)
        try:
            await _relay_lines(answering, call.out, pace, call.seen)
        except UpstreamDied as died:
            message = f"Expert '{exchange.expert}' broke off in the middle of its answer."
            raise ApiError(502, message, code="expert_died") from died
        finally:
            exchange.first_token_at, exchange.usage = pace.first_token_at, pace.usage()
        if exchange.arm and self._kind in WRITTEN:
            exchange.true_status = pace.true_status()
        if call.seen is not None:
            self._quality.answered(call.seen, exchange, None)

    async def _relay_whole(self, call: _Call, reply: Reply) -> None:
        exchange, headers = call.exchange, list(call.exchange.headers)
        if reply.status == 200:
            exchange.usage = tokens.of_answer(reply.body) if reply.content is None else tokens.of_content(reply.content)
        elif reply.status >= 400:
            exchange.error = f"expert_{reply.status}"
        if reply.retry_after:
            headers.append((b"retry-after", reply.retry_after))
        await call.out.whole(reply.status, reply.content_type, reply.body, headers)
        if reply.status != 200:
            return
        if exchange.arm and self._kind in WRITTEN:
            exchange.true_status = reply.true_status()
        if call.seen is not None:
            self._quality.answered(call.seen, exchange, reply.body)


async def _relay_lines(answering: Answering, out: Outbox, pace: Pace, seen: Seen | None) -> None:
    """Relay a stream as it arrives, holding back only an unfinished last line, so that what a
    dying server leaves behind never reaches the client as half an event."""
    held: list[bytes] = []
    size = 0
    async for chunk in answering.chunks():
        end = chunk.rfind(b"\n") + 1
        if end or size + len(chunk) > MOST_LINE_BYTES:
            end = end or len(chunk)
            lines = b"".join((*held, chunk[:end])) if held or end < len(chunk) else chunk
            pace.piece(lines)
            await out.chunk(lines)
            if seen is not None:
                seen.add(lines)
            held.clear()
            size = 0
            chunk = chunk[end:]
        if chunk:
            held.append(chunk)
            size += len(chunk)
    last = b"".join(held)
    pace.piece(last)
    if seen is not None:
        seen.add(last)
    await out.end(last)


def _refuse(call: _Call, answering: Answering, route: Route) -> None:
    """Note that the canary said no, and give its place back."""
    answering.close()
    call.exchange.is_refused = True
    call.exchange.failures.append(f"the canary of '{route.expert}' refused the request")
    if not answering.reply.is_stream:
        call.refusal = answering, route


def _note(exchange: Exchange, replica: Replica, route: Route) -> None:
    """Note who is asked, and why."""
    exchange.expert, exchange.model, exchange.lock = replica.expert, replica.model, replica.lock
    exchange.route, exchange.fallback = route.reason, route.fallback
    exchange.headers = [*replica.headers, (b"x-largeforge-route", header_value(route.reason))]
    if route.fallback:
        exchange.headers.append((b"x-largeforge-fallback", route.fallback.encode()))
        exchange.headers.append((b"x-largeforge-requested", header_value(route.requested)))


async def _fail(error: ApiError, exchange: Exchange, out: Outbox) -> None:
    exchange.error = error.code or f"status_{error.status}"
    with suppress(TimeoutError):
        async with asyncio.timeout(MOST_TO_FAIL_S):
            await out.error(error, exchange.headers)


def _upstream_head(link: Link) -> bytes:
    """Return the few headers that an upstream may see; credentials and hop-by-hop headers never do."""
    given, exchange = link.given, link.exchange
    content_type = given.get(b"content-type", b"application/json")
    head = b"x-request-id: %b\r\ncontent-type: %b\r\n" % (exchange.request_id.encode(), content_type)
    if accept := given.get(b"accept"):
        head += b"accept: %b\r\n" % accept
    if timeout := given.get(deadline.HEADER):
        head += b"%b: %b\r\n" % (deadline.HEADER, timeout)
    if exchange.trace is None and not given.keys().isdisjoint(tracing.HEADERS):
        head += tracing.passed_on(link.headers)
    return head


def _shutting_down() -> ApiError:
    return ApiError(503, "The gateway is shutting down.", code="shutting_down", retry_after_s=1)
