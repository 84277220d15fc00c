"""Answer completion requests: read, route, ask the expert, fall back once, relay the bytes.

The fallback is tried only while nothing has reached the client. An upstream's 4xx is an answer
and passes unchanged; its 5xx, a refused or broken connection, or bad health is a failure.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from largeforge.gateway.access import Exchange, exchange_of
from largeforge.gateway.errors import ApiError
from largeforge.gateway.health import Health, describe
from largeforge.gateway.request import ClientGone, Request, parse, read_body
from largeforge.gateway.respond import Headers, Outbox, while_connected
from largeforge.gateway.routing import Route, Routing
from largeforge.gateway.tasks import has_fallback
from largeforge.gateway.upstream import Reply, Session, Target, UpstreamDied, UpstreamFailed, header_value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.types import Receive, Scope, Send

    from largeforge.gateway.kinds import Kind
    from largeforge.gateway.metrics import Metrics
    from largeforge.gateway.tasks import Tasks
    from largeforge.recipe.schema import Gateway

CLIENT_CLOSED = 499
"""Status in logs and metrics when the client left before its answer; nginx's convention."""


@dataclass(frozen=True)
class Parts:
    """What the proxy works with; one set serves all its endpoints."""

    settings: Gateway
    targets: Mapping[str, Target]
    fallback: str
    tasks: Tasks
    routing: Routing
    health: Health
    session: Session
    metrics: Metrics
    clock: Callable[[], float]


@dataclass
class _Call:
    """One request on its way."""

    request: Request
    route: Route
    exchange: Exchange
    out: Outbox
    upstream_head: bytes
    """Header lines for the upstream."""
    failures: list[str] = field(default_factory=list)


class Proxy:
    """The ASGI endpoint of one kind of completion."""

    def __init__(self, kind: Kind, parts: Parts):
        self._kind = kind
        self._parts = parts
        self._max_bytes = int(parts.settings.max_body_mib * 2**20)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; whatever happens is an answer, a log line and a count."""
        parts = self._parts
        exchange = exchange_of(scope)
        out = Outbox(send, parts.clock)
        parts.metrics.in_flight.inc()
        try:
            await self._handle(scope, receive, exchange, out)
        except ApiError as error:
            await out.error(error, exchange.headers)
        except ClientGone:
            out.status = CLIENT_CLOSED
        except asyncio.CancelledError:
            await out.error(_shutting_down(), exchange.headers)
        finally:
            parts.metrics.in_flight.dec()
            exchange.status = out.status or 500
            parts.metrics.observe(
                expert=exchange.expert,
                status=exchange.status,
                duration_s=parts.clock() - exchange.started,
                first_byte_s=None if out.first_byte_at is None else out.first_byte_at - exchange.started,
            )

    async def _handle(self, scope: Scope, receive: Receive, exchange: Exchange, out: Outbox) -> None:
        parts = self._parts
        request = parse(await read_body(scope, receive, self._max_bytes), self._kind, scope["headers"])
        route = parts.tasks.route(request) or await parts.routing.route(request)
        call = _Call(request, route, exchange, out, _upstream_head(scope, exchange.request_id))
        await while_connected(receive, self._answer(call))

    async def _answer(self, call: _Call) -> None:
        limit_s = self._parts.settings.request_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                reply = await self._ask(call)
                try:
                    await self._relay(call, reply)
                finally:
                    reply.close()
        except TimeoutError:
            message = f"Expert '{call.exchange.expert}' did not finish its answer within {limit_s:g} s."
            raise ApiError(504, message, code="timeout") from None

    async def _ask(self, call: _Call) -> Reply:
        """Return the reply of the route's expert, or of the fallback when that expert fails."""
        parts, route = self._parts, call.route
        if route.fallback:
            parts.metrics.fallbacks.labels(route.fallback).inc()
        try:
            return await self._ask_expert(call, route.expert, route)
        except UpstreamFailed as failure:
            if route.expert == parts.fallback or not has_fallback(call.request.kind):
                raise self._unavailable(call, failure) from failure
        parts.metrics.fallbacks.labels("expert-down").inc()
        rerouted = Route(parts.fallback, route.reason, route.requested, fallback="expert-down")
        try:
            return await self._ask_expert(call, parts.fallback, rerouted)
        except UpstreamFailed as failure:
            raise self._unavailable(call, failure) from failure

    async def _ask_expert(self, call: _Call, expert: str, route: Route) -> Reply:
        parts = self._parts
        target = parts.targets[expert]
        call.exchange.expert = expert
        call.exchange.headers = [*target.headers, *_route_headers(route)]
        try:
            if parts.health.is_down(expert):
                raise UpstreamFailed("down")
            body = call.request.body_for(target.served_model)
            return await parts.session.post(target, call.request.kind, body, call.upstream_head)
        except UpstreamFailed as failure:
            reason = parts.health.reason(expert) if failure.kind == "down" else describe(failure)
            call.failures.append(f"'{expert}' {reason}")
            if failure.kind in ("refused", "connect-timeout", "reset", "broken"):
                parts.health.mark_down(expert, reason)
            raise

    def _unavailable(self, call: _Call, failure: UpstreamFailed) -> ApiError:
        """Return the error for a request that no expert could answer."""
        if failure.kind == "connect-timeout" or failure.status == 504:
            status = 504
        else:
            status = 503 if failure.kind == "down" or failure.status == 503 else 502
        retry_after_s: float | None = None
        if failure.retry_after.isdigit():
            retry_after_s = float(failure.retry_after)
        elif failure.kind != "status" or status == 503:
            retry_after_s = self._parts.settings.health_interval_s
        message = f"No expert could answer: {', '.join(call.failures)}."
        return ApiError(status, message, code="expert_down", retry_after_s=retry_after_s)

    async def _relay(self, call: _Call, reply: Reply) -> None:
        headers: Headers = list(call.exchange.headers)
        if not reply.is_stream:
            if reply.retry_after:
                headers.append((b"retry-after", reply.retry_after))
            await call.out.whole(reply.status, reply.content_type, reply.body, headers)
            return
        await call.out.stream(headers)
        try:
            await _relay_lines(reply, call.out)
        except UpstreamDied as died:
            expert = call.exchange.expert
            self._parts.health.mark_down(expert, "broke off a stream")
            raise ApiError(
                502, f"Expert '{expert}' broke off in the middle of its answer.", code="expert_died"
            ) from died


async def _relay_lines(reply: Reply, out: Outbox) -> None:
    """Relay a stream as it arrives, holding back only an unfinished last line, so that what a
    dying server leaves behind never reaches the client as half an event."""
    held = b""
    async for chunk in reply.chunks():
        data = held + chunk if held else chunk
        end = data.rfind(b"\n") + 1
        held = data[end:]
        if end:
            await out.chunk(data[:end] if held else data)
    await out.end(held)


def _upstream_head(scope: Scope, request_id: str) -> bytes:
    """Return the few headers that an upstream may see; credentials and hop-by-hop headers never do."""
    lines = [b"x-request-id: %b\r\n" % request_id.encode()]
    given = dict(scope["headers"])
    lines.append(b"content-type: %b\r\n" % given.get(b"content-type", b"application/json"))
    if accept := given.get(b"accept"):
        lines.append(b"accept: %b\r\n" % accept)
    return b"".join(lines)


def _route_headers(route: Route) -> Headers:
    headers = [(b"x-largeforge-route", header_value(route.reason))]
    if route.fallback:
        headers.append((b"x-largeforge-fallback", route.fallback.encode()))
        headers.append((b"x-largeforge-requested", header_value(route.requested)))
    return headers


def _shutting_down() -> ApiError:
    return ApiError(503, "The gateway is shutting down.", code="shutting_down", retry_after_s=1)
