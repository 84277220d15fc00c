"""Give every request an id and every answer a log line; never a word of content."""

from __future__ import annotations

import logging
import random
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from largeforge.gateway.heads import by_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from largeforge.gateway.tokens import Usage
    from largeforge.gateway.tracing import RequestTrace

logger = logging.getLogger(__name__)

_KEY = "largeforge.exchange"
_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_QUIET = frozenset(("/health", "/ready", "/metrics", "/monitor/data"))


@dataclass(slots=True)
class Exchange:
    """What is known of one request beside its content; the endpoint fills it in."""

    request_id: str
    started: float
    expert: str = ""
    model: str = ""
    """Reference of the model that answers."""
    lock: str = ""
    """Digest of the lock of the run that made it."""
    route: str = ""
    """Why that expert."""
    fallback: str = ""
    """Why not the expert that was chosen."""
    replica: str = ""
    """Address of the server that answered, or was asked last."""
    attempts: int = 0
    """How often servers were asked."""
    failures: list[str] = field(default_factory=list)
    """What became of those that gave no answer, in words for the client."""
    status: int = 0
    error: str = ""
    """Code of the error, or why there is no good answer; empty for a good one."""
    first_byte_at: float | None = None
    first_token_at: float | None = None
    """When a stream's first event came."""
    usage: Usage | None = None
    num_bytes: int = 0
    """Size of the body that was sent."""
    trace: RequestTrace | None = None
    rolled_out: str = ""
    """Expert that was asked while it has a canary."""
    arm: str = ""
    """Which side of that was asked first."""
    is_lost: bool = False
    """Whether the canary failed, or refused, and stable answered in its place."""
    is_refused: bool = False
    """Whether it refused, so that what stable says of the same request tells whose mistake that was."""
    true_status: int = 0
    """Status that an answer with status 200 should have had, looked at where there is a canary; 0 for a good one."""
    is_shadow: bool = False
    """Whether nobody gets the answer."""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Headers that say which expert answers, and why."""


def exchange_of(scope: Scope) -> Exchange:
    """Return the exchange that a request belongs to."""
    exchange: Exchange = scope[_KEY]
    return exchange


def _logged(message: str, fields: Mapping[str, Any]) -> None:
    logger.info(message, extra={"fields": fields})


class RequestLog:
    """Begins the exchange of each request, and writes a line at its end through `write`."""

    def __init__(self, *, clock: Callable[[], float], write: Callable[[str, Mapping[str, Any]], None] | None = None):
        self._clock = clock
        self.write = write or _logged
        """Writes a line: a message, and its fields."""

    def begin(self, given: Mapping[bytes, bytes]) -> Exchange:
        """Return the exchange of a request that has just come with these headers."""
        return Exchange(_request_id(given), self._clock())

    def end(self, method: str, path: str, exchange: Exchange) -> None:
        """Write the line of a request that is answered."""
        if path in _QUIET and exchange.status == 200:
            return
        fields = {
            "request_id": exchange.request_id,
            "method": method,
            "path": path[:200],
            "expert": exchange.expert,
            "model": exchange.model,
            "lock": exchange.lock,
            "status": exchange.status,
            "duration_ms": round((self._clock() - exchange.started) * 1000, 3),
            "bytes": exchange.num_bytes,
        }
        if exchange.route:
            _add_expert(fields, exchange)
        if exchange.error:
            fields["error"] = exchange.error
        if exchange.trace is not None:
            fields["trace_id"] = exchange.trace.trace_id
        self.write("request", fields)


class AccessLog:
    """Wraps an application: ids in, log lines out. It looks at the head of each answer and at the size of its body."""

    def __init__(self, app: ASGIApp, log: RequestLog):
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = scope[_KEY] = self._log.begin(by_name(scope["headers"]))
        id_header = (b"x-request-id", exchange.request_id.encode())

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = exchange.status or message["status"]
                message["headers"] = [*message.get("headers", ()), id_header]
            else:
                exchange.num_bytes += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            self._log.end(scope["method"], scope["path"], exchange)


def _add_expert(fields: dict[str, Any], exchange: Exchange) -> None:
    """Add the fields of a request that was sent to an expert."""
    fields["route"] = exchange.route
    fields["replica"] = exchange.replica
    fields["attempts"] = exchange.attempts
    if exchange.fallback:
        fields["fallback"] = exchange.fallback
    if exchange.first_byte_at is not None:
        fields["first_byte_ms"] = round((exchange.first_byte_at - exchange.started) * 1000, 3)
    if exchange.first_token_at is not None:
        fields["first_token_ms"] = round((exchange.first_token_at - exchange.started) * 1000, 3)
    if (usage := exchange.usage) is not None:
        fields["prompt_tokens"], fields["completion_tokens"] = usage


def _request_id(given: Mapping[bytes, bytes]) -> str:
    value = given.get(b"x-request-id")
    if value is not None and _SANE_ID.fullmatch(value):
        return str(value, "ascii")
    return f"{random.getrandbits(128):032x}"
