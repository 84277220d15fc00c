"""The connections of clients: uvicorn's, with limits on what one can hold that never finishes a request.

A head must come within seconds and fit into a few kilobytes, a body must come within minutes. There are never more
connections than file descriptors allow, and never more bytes of unfinished bodies than fit: beyond that, who has waited
longest gives way. What is no HTTP/1.1 is refused with 400, after the answers that are under way.
"""

from __future__ import annotations

import asyncio
import resource
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from largeforge.gateway import heads
from largeforge.gateway.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

Part = Literal["idle", "head", "body", "rest"]

HEAD_TIMEOUT_S = 20.0
"""How long a client may take to connect and send a whole head."""
BODY_TIMEOUT_S = 120.0
"""How long it may take to send the body."""
REST_TIMEOUT_S = 5.0
"""How long it may go on to send a body that was answered before its end, such as one that is too large."""
MOST_QUIET_BYTES = heads.MOST_BYTES
"""Most bytes that may come without ending the head, or within a body without being any of it."""
MOST_HELD_BYTES = 512 * 2**20
"""Bytes of unfinished bodies that all clients together may hold."""
MOST_PIPELINED = 64
"""Requests that a client may send before the first is answered."""
SPARE_DESCRIPTORS = 512
"""File descriptors that are kept free of clients: for servers, files and logs."""
TO_THE_DISK = "/v1/files"
"""The path whose bodies are not held in memory."""


def most_connections() -> int:
    """Return how many clients may be connected, after raising the limit on open files as far as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    open_files = hard if hard != resource.RLIM_INFINITY else 2**20
    return max(64, open_files // 2 if open_files < 2 * SPARE_DESCRIPTORS else open_files - SPARE_DESCRIPTORS)


@dataclass
class _Room:
    """What all clients share."""

    most: int
    """Connections at once."""
    waiting: dict[ClientConnection, None] = field(default_factory=dict)
    """Those whose request has not come, the longest first."""
    holding: dict[ClientConnection, int] = field(default_factory=dict)
    """Bytes of unfinished bodies, the longest first."""
    num_held: int = 0

    def hold(self, client: ClientConnection, num_bytes: int) -> None:
        """Note what a client holds; who has held something for the longest goes when it is too much together."""
        self.num_held += num_bytes - self.holding.get(client, 0)
        if num_bytes:
            self.holding[client] = num_bytes
        else:
            self.holding.pop(client, None)
        if self.num_held > MOST_HELD_BYTES:
            next(iter(self.holding)).transport.abort()


def protocol(most: int) -> Callable[..., asyncio.Protocol]:
    """Return what makes the protocol of each connection, of which there are at most so many."""
    room = _Room(most)

    def make(*arguments: Any, **keywords: Any) -> asyncio.Protocol:
        return ClientConnection(room, *arguments, **keywords)

    return make


class _Rest:
    """Takes the body of a request that asks for another protocol and does not get it."""

    def __init__(self, client: ClientConnection):
        self.on_body = client.on_body
        self.on_message_complete = client.on_message_complete


class ClientConnection(HttpToolsProtocol):
    """One client."""

    def __init__(self, room: _Room, *arguments: Any, **keywords: Any):
        super().__init__(*arguments, **keywords)
        self._room = room
        self._quiet_bytes = 0
        """Bytes that have come since the head began, or since the last of its body."""
        self._body_bytes = 0
        """Bytes of the body that is coming."""
        self._all_body_bytes = 0
        """Those of all bodies of this connection."""
        self._part: Part = "head"
        """What is to come next of a request; `idle` between two."""
        self._timed: Part = "idle"
        """The part that the timer is for."""
        self._timer: asyncio.TimerHandle | None = None
        self._fault = ""
        """Why a request was refused by us rather than by the parser."""
        self._is_broken = False
        """Whether nothing more is read: the answers that are under way are the last."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; when there are too many, the one that waits longest has to go."""
        super().connection_made(transport)  # type: ignore[arg-type]
        if len(self.connections) > self._room.most and self._room.waiting:
            next(iter(self._room.waiting)).transport.abort()
        self._room.waiting[self] = None
        self._time()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._part = "idle"
        self._time()
        self._room.waiting.pop(self, None)
        self._room.hold(self, 0)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, unless it is a head without an end; most requests come whole, and need no timer."""
        if self._is_broken:
            return
        self._unset_keepalive_if_required()
        before = self._all_body_bytes
        if not self._feed(data):
            return
        if self._part != "idle":
            self._quiet_bytes += len(data)
            if self._part != "head" and self._all_body_bytes > before:
                self._quiet_bytes = 0
            if self._quiet_bytes > MOST_QUIET_BYTES:
                self._refuse(431)
                return
            if self._part == "body" and self.scope["path"] != TO_THE_DISK:
                self._room.hold(self, self._body_bytes)
        if self._part != self._timed:
            self._time()

    def on_message_begin(self) -> None:
        """Begin a request."""
        if len(self.pipeline) >= MOST_PIPELINED:
            self._give_up(f"More than {MOST_PIPELINED} requests were sent before the first was answered.")
        self._part, self._quiet_bytes, self._body_bytes = "head", 0, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; those that follow a body change nothing."""
        if self._part == "head":
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Wait for the body."""
        if fault := heads.fault(self.headers, self.parser.get_http_version()):
            self._give_up(fault)
        self._part = "body"
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._body_bytes += len(body)
        self._all_body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Wait for nothing any more: what takes time now is the answer."""
        if self._ignores_upgrade() and heads.framing(self.headers):
            return  # the parser takes the body for the other protocol
        if self._part != "rest":
            self._room.waiting.pop(self, None)
        self._part = "idle"
        if self._body_bytes:
            self._room.hold(self, 0)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request; how long it may take is uvicorn's to say."""
        if self._is_broken and not self.pipeline:
            self.transport.close()
            return
        if self._part == "body" and not self.pipeline:
            self._part = "rest"
            self._room.hold(self, 0)
            self._time()
        elif self._part == "idle":
            self._room.waiting[self] = None
        super().on_response_complete()

    def _feed(self, data: bytes) -> bool:
        """Parse what came; return whether the connection goes on as it was."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
                self._time()
                return False
            return self._go_on_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._break()
            return False
        return True

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over, unless half of all carry WebSockets: those need not ask for anything, ever."""
        if 2 * sum(type(other) is not ClientConnection for other in self.connections) < self._room.most:
            super().handle_websocket_upgrade()
            return
        error = ApiError(503, "There are too many WebSockets.", code="overloaded", retry_after_s=1)
        self._say(503, orjson.dumps(error.body()), b"content-type: application/json\r\nretry-after: 1\r\n")
        self.transport.close()

    def _should_upgrade(self) -> bool:
        is_handshake = self.parser.get_method() == b"GET" and not heads.framing(self.headers)
        return is_handshake and super()._should_upgrade()

    def _ignores_upgrade(self) -> bool:
        return bool(self.parser.should_upgrade()) and not self._should_upgrade()

    def _go_on_without_upgrade(self, rest: bytes) -> bool:
        """Answer a request for HTTP/2 or the like in HTTP/1.1, as its last one."""
        self.cycle.keep_alive = False
        framing = heads.framing(self.headers)
        if not framing:
            self._is_broken = True
            return True
        self.parser = httptools.HttpRequestParser(_Rest(self))
        return self._feed(b"POST / HTTP/1.1\r\nhost: x\r\n" + framing + b"\r\n" + rest)

    def _give_up(self, fault: str) -> None:
        """Leave the parser."""
        self._fault = fault
        raise ValueError(fault)

    def _break(self) -> None:
        """Refuse what is no request, after the answers that are under way, and close."""
        if self.transport.is_closing():
            return
        self._is_broken = True
        is_queued = bool(self.pipeline)
        if is_queued and self.pipeline[0][0].more_body:
            self.pipeline.popleft()  # it will never be whole
        cycle = self.cycle
        if is_queued or not (cycle is None or cycle.response_complete or cycle.more_body):
            return
        if cycle is None or cycle.response_complete or not cycle.response_started:
            error = ApiError(400, self._fault or "This is no HTTP/1.1 request.", code="no_http")
            self._say(400, orjson.dumps(error.body()), b"content-type: application/json\r\n")
        self.transport.close()

    def _say(self, status: int, body: bytes = b"", head: bytes = b"") -> None:
        """Write an answer that no application made."""
        lines = b"content-length: %d\r\nconnection: close\r\n" % len(body)
        self.transport.write(b"".join((STATUS_LINE[status], head, lines, b"\r\n", body)))

    def _time(self) -> None:
        """Let what is to come next have its time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timed = self._part
        if self._part != "idle":
            timeouts_s = {"head": HEAD_TIMEOUT_S, "body": BODY_TIMEOUT_S, "rest": REST_TIMEOUT_S}
            self._timer = self.loop.call_later(timeouts_s[self._part], self._refuse, 408)

    def _refuse(self, status: int) -> None:
        """Say why where an answer has not begun, and close."""
        if self.transport.is_closing():
            return
        if self._part == "head" and self._quiet_bytes and (self.cycle is None or self.cycle.response_complete):
            self._say(status)
        self.transport.close()
