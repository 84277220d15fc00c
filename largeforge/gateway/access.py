"""Give every request an id and every answer a log line; never a word of content.

A plain ASGI wrapper: it looks at the head of the answer and does not touch bodies.
"""

from __future__ import annotations

import logging
import random
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

_KEY = "largeforge.exchange"
_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_QUIET = frozenset(("/health", "/ready", "/metrics"))


@dataclass
class Exchange:
    """What is known of one request beside its content; the endpoint fills it in."""

    request_id: str
    started: float
    expert: str = ""
    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Headers that say which expert answers, and why."""


def exchange_of(scope: Scope) -> Exchange:
    """Return the exchange that a request belongs to."""
    exchange: Exchange = scope[_KEY]
    return exchange


def _logged(message: str, fields: Mapping[str, Any]) -> None:
    logger.info(message, extra={"fields": fields})


class AccessLog:
    """Wraps the application: ids in, log lines out, through `write`."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        clock: Callable[[], float],
        write: Callable[[str, Mapping[str, Any]], None] | None = None,
    ):
        self._app = app
        self._clock = clock
        self._write = write or _logged

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = scope[_KEY] = Exchange(_request_id(scope), self._clock())
        id_header = (b"x-request-id", exchange.request_id.encode())

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = exchange.status or message["status"]
                message["headers"] = [*message.get("headers", ()), id_header]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            self._log(scope, exchange)

    def _log(self, scope: Scope, exchange: Exchange) -> None:
        if scope["path"] in _QUIET and exchange.status == 200:
            return
        served = dict(exchange.headers)
        fields = {
            "request_id": exchange.request_id,
            "method": scope["method"],
            "path": scope["path"][:200],
            "expert": exchange.expert,
            "model": served.get(b"x-largeforge-model", b"").decode(),
            "lock": served.get(b"x-largeforge-lock", b"").decode(),
            "status": exchange.status,
            "duration_ms": round((self._clock() - exchange.started) * 1000, 3),
        }
        self._write("request", fields)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _SANE_ID.fullmatch(value):
            return str(value, "ascii")
    return f"{random.getrandbits(128):032x}"
