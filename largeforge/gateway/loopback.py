"""Ask the gateway's own application, in this process, exactly as a client would over HTTP.

What comes over a WebSocket and the lines of batches take this way, so that routing, limits, failure handling, metrics
and the log are the same for them as for any request. `scope["largeforge.source"]` says where a request came from.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Message, Scope

Source = Literal["batch", "websocket"]
Headers = list[tuple[bytes, bytes]]

SOURCE = "largeforge.source"
"""Key of a request's scope."""


class Sink(Protocol):
    """Takes an answer as it comes."""

    async def start(self, status: int, headers: Headers) -> None:
        """Take the head of the answer."""

    async def piece(self, data: bytes) -> None:
        """Take a part of the body; the next is made when this returns."""


class Loopback:
    """A way back into the application; `app` is set once there is one."""

    def __init__(self) -> None:
        self.app: ASGIApp

    async def call(
        self,
        path: str,
        body: bytes,
        sink: Sink,
        *,
        source: Source,
        headers: Iterable[tuple[bytes, bytes]] = (),
        gone: asyncio.Event | None = None,
        client: tuple[str, int] | None = None,
    ) -> None:
        """Post a body and hand the answer to `sink`; setting `gone` is the client that goes away."""
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [*headers, (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))],
            "client": client,
            "server": None,
            "state": {},
            SOURCE: source,
        }
        exchange = _Exchange(body, sink, gone or asyncio.Event())
        await self.app(scope, exchange.receive, exchange.send)


@dataclass
class _Exchange:
    body: bytes | None
    sink: Sink
    gone: asyncio.Event

    async def receive(self) -> Message:
        if self.body is not None:
            body, self.body = self.body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self.gone.is_set():
            return
        if message["type"] == "http.response.start":
            await self.sink.start(message["status"], list(message.get("headers", ())))
        elif data := message.get("body", b""):
            await self.sink.piece(bytes(data))


@dataclass
class Whole:
    """A sink that keeps the answer: no answer came while `status` is 0."""

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    _pieces: list[bytes] = field(default_factory=list)

    async def start(self, status: int, headers: Headers) -> None:
        """Keep the head."""
        self.status, self.headers = status, dict(headers)

    async def piece(self, data: bytes) -> None:
        """Keep a part of the body."""
        self._pieces.append(data)

    @property
    def body(self) -> bytes:
        """All of the body so far."""
        return b"".join(self._pieces)
