"""The connections of clients: uvicorn's, with limits on what one can hold that never finishes a request.

A head must come within seconds and fit into a few kilobytes, a body must come within minutes. There are never more
connections than file descriptors allow, and never more bytes of unfinished bodies than fit: beyond that, who has waited
longest gives way. What is no HTTP/1.1 is refused with 400, after the answers that are under way.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal, cast

import httptools

from largeforge.gateway import heads
from largeforge.gateway.clients.direct import Direct
from largeforge.gateway.clients.refusals import REFUSALS, refusal
from largeforge.gateway.clients.upgrades import Upgrading
from largeforge.gateway.errors import ApiError
from largeforge.gateway.writing import Joined

if TYPE_CHECKING:
    from collections.abc import Mapping

    from largeforge.gateway.clients.room import Room

Part = Literal["idle", "head", "body", "rest"]

HEAD_TIMEOUT_S = 20.0
"""How long a client may take to connect and send a whole head."""
BODY_TIMEOUT_S = 120.0
"""How long it may take to send the body."""
REST_TIMEOUT_S = 5.0
"""How long it may go on to send a body that was answered before its end, such as one that is too large."""
MOST_QUIET_BYTES = heads.MOST_BYTES
"""Most bytes that may come without ending the head, or within a body without being any of it."""
MOST_PIPELINED = 64
"""Requests that a client may send before the first is answered."""
LINGER_S = 1.0
"""How long a connection stays open for one more request once the gateway ends; its answer then closes it, so that no
client sends one to where nobody reads any more."""
TO_THE_DISK = b"/v1/files"
"""The path whose bodies are not held in memory."""


class Client(Upgrading):
    """One client."""

    def __init__(self, room: Room, *arguments: Any, **keywords: Any):
        super().__init__(room, *arguments, **keywords)
        room.coming.add(self)
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
        self._num_requests = 0
        """Requests that have begun to come."""
        self._direct: Direct | None = None
        """The request that is read or answered without ASGI."""
        self._by_asgi: Any = None
        """The request that is answered by ASGI; uvicorn knows only the one that came last."""
        self._fault = ""
        """Why a request was refused by us rather than by the parser."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        super().connection_made(cast("asyncio.Transport", Joined(cast("asyncio.Transport", transport), self.loop)))
        self._room.coming.discard(self)
        self._room.enter(self, len(self.connections))
        self._time()
        if self._room.is_closing:
            self._linger()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._part = "idle"
        self._time()
        self._room.leave(self)
        direct, self._direct = self._direct, None
        if direct is not None:
            direct.lose_client()
        if self.cycle is direct:
            self.cycle = None
        if self._by_asgi is not None and not self._by_asgi.response_complete:
            self._by_asgi.disconnected = True
            self._by_asgi.message_event.set()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Answer the last requests; one that is still coming is waited for like an answer."""
        self._room.is_closing = True
        if self._direct is not None and self._direct.more_body:
            self._direct.begin()
        if self.cycle is None or self.cycle.response_complete:
            self._linger()
        elif not self.cycle.response_started:  # an answer that has begun has not said that it is the last
            self.cycle.keep_alive = False

    def close_if_idle(self) -> None:
        """Close a connection that has brought no request for a long time."""
        if self._part == "idle":
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Take what came, unless it is a head without an end; most requests come whole, and need no timer."""
        if self._is_broken:
            return
        num_requests, num_bytes = self._num_requests, self._all_body_bytes
        if not self._feed(data):
            return
        if self._part != "idle":
            if self._part != "head" and self._all_body_bytes > num_bytes:
                self._quiet_bytes = 0
            elif self._num_requests > num_requests:
                self._quiet_bytes = 1  # how much of it is of the requests before, nobody knows
            else:
                self._quiet_bytes += len(data)
            if self._quiet_bytes > MOST_QUIET_BYTES:
                self._break(431)
                return
            if self._part == "body" and self.url.partition(b"?")[0] != TO_THE_DISK:
                self._room.hold(self, self._body_bytes)
        if self._part != self._timed:
            self._time()

    def on_message_begin(self) -> None:
        """Begin a request."""
        if len(self.pipeline) >= MOST_PIPELINED:
            self._give_up(f"More than {MOST_PIPELINED} requests were sent before the first was answered.")
        self._part, self._quiet_bytes, self._body_bytes = "head", 0, 0
        self._num_requests += 1
        self.url, self.headers = b"", []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; those that follow a body change nothing."""
        if self._part == "head":
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Wait for the body."""
        version = self.parser.get_http_version()
        if fault := heads.fault(self.headers, version):
            self._give_up(fault)
        self._part = "body"
        direct = self._direct_way(heads.by_name(self.headers)) if version == "1.1" else None
        if direct is None:
            self._go_by_asgi()
        else:
            self._direct = self.cycle = direct
        if self._room.is_closing and self.cycle is not None:
            self.cycle.keep_alive = False

    def _direct_way(self, given: Mapping[bytes, bytes]) -> Direct | None:
        """Return how a request is answered without ASGI, None where it is none that can be."""
        completions, before = self._room.completions, self.cycle
        proxy = completions.proxies.get(self.url) if completions is not None else None
        if completions is None or proxy is None or self.parser.get_method() != b"POST" or b"expect" in given:
            return None
        if self.parser.should_upgrade() or not (before is None or before.response_complete):
            return None
        length = given.get(b"content-length", b"0")
        if not length.isdigit() or not 0 < int(length) <= completions.max_bytes:
            return None
        return Direct(self, proxy, given, completions.log)

    def _go_by_asgi(self) -> None:
        url, headers = self.url, self.headers
        super().on_message_begin()
        for name, value in headers:
            super().on_header(name, value)
        self.url = url
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._body_bytes += len(body)
        self._all_body_bytes += len(body)
        if self._direct is not None and self.cycle is self._direct:
            self._direct.take(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Wait for nothing any more: what takes time now is the answer."""
        if self._direct is not None and self.cycle is self._direct:
            self._end_of_request()
            self._direct.end_body()
            return
        if self._ignores_upgrade() and heads.framing(self.headers):
            return  # the parser takes the body for the other protocol
        self._end_of_request()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with a request that has come already, or wait for the next; how long, is the room's to say."""
        if self._direct is not None:
            if self.cycle is self._direct:
                self.cycle = None
            self._direct = None
        self.server_state.total_requests += 1
        if self._is_broken and not self.pipeline:
            self.transport.close()
            return
        if self._part == "body" and not self.pipeline:
            self._part = "rest"
            self._room.hold(self, 0)
            self._time()
        elif self._part == "idle" and not self.pipeline and self in self.connections:
            self._room.wait(self)
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._room.is_closing:
            self._linger()

    def _linger(self) -> None:
        self.loop.call_later(LINGER_S, self._end_linger)

    def _end_linger(self) -> None:
        is_over = self.cycle is None or self.cycle.response_complete
        if is_over and not (self._part == "head" and self._quiet_bytes):
            self.transport.close()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._by_asgi = cycle
        super()._start_asgi_task(cycle, app)

    def _end_of_request(self) -> None:
        self._room.wait_no_more(self)
        if self._part == "rest":
            self._room.wait(self)  # for the next: this one was answered before its end
        self._part = "idle"
        if self in self._room.holding:
            self._room.hold(self, 0)

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
            self._break(400)
            return False
        return True

    def _give_up(self, fault: str) -> None:
        """Leave the parser."""
        self._fault = fault
        raise ValueError(fault)

    def _break(self, status: int) -> None:
        """Refuse what comes, after the answers that are under way, and close."""
        if self.transport.is_closing():
            return
        part, self._part, self._is_broken = self._part, "idle", True
        self._time()
        is_queued = bool(self.pipeline)
        if is_queued and self.pipeline[0][0].more_body:
            self.pipeline.popleft()  # it will never be whole
        cycle = self.cycle
        is_over = cycle is None or cycle.response_complete
        if is_queued or not (is_over or cycle.more_body):
            return
        speaks = status == 400 or part == "body" or (part == "head" and self._quiet_bytes)
        if speaks and (is_over or not cycle.response_started):
            message, code = REFUSALS[status]
            self.transport.write(refusal(ApiError(status, self._fault or message, code=code)))
        self.transport.close()

    def _time(self) -> None:
        """Let what is to come next have its time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timed = self._part
        if self._part != "idle":
            timeouts_s = {"head": HEAD_TIMEOUT_S, "body": BODY_TIMEOUT_S, "rest": REST_TIMEOUT_S}
            self._timer = self.loop.call_later(timeouts_s[self._part], self._break, 408)
