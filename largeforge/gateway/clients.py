"""The connections of clients: uvicorn's, with limits on what one can hold that never finishes a request.

A head must come within seconds and fit into a few kilobytes, a body must come within minutes. There are never more
connections than file descriptors allow: beyond that, the one that has waited longest for a request gives way.
"""

from __future__ import annotations

import asyncio
import resource
from typing import TYPE_CHECKING, Any, Literal

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

if TYPE_CHECKING:
    from collections.abc import Callable

Part = Literal["idle", "head", "body"]

HEAD_TIMEOUT_S = 20.0
"""How long a client may take to connect and send a whole head."""
BODY_TIMEOUT_S = 120.0
"""How long it may take to send the body."""
MOST_HEAD_BYTES = 65_536
"""Largest head of a request."""
SPARE_DESCRIPTORS = 512
"""File descriptors that are kept free of clients: for servers, files and logs."""


def most_connections() -> int:
    """Return how many clients may be connected, after raising the limit on open files as far as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    open_files = hard if hard != resource.RLIM_INFINITY else 2**20
    return max(64, open_files // 2 if open_files < 2 * SPARE_DESCRIPTORS else open_files - SPARE_DESCRIPTORS)


def protocol(most: int) -> Callable[..., asyncio.Protocol]:
    """Return what makes the protocol of each connection, of which there are at most so many."""
    waiting: dict[ClientConnection, None] = {}

    def make(*arguments: Any, **keywords: Any) -> asyncio.Protocol:
        return ClientConnection(waiting, most, *arguments, **keywords)

    return make


class ClientConnection(HttpToolsProtocol):
    """One client; in `waiting` while the gateway waits for its request, the longest first."""

    def __init__(self, waiting: dict[ClientConnection, None], most: int, *arguments: Any, **keywords: Any):
        super().__init__(*arguments, **keywords)
        self._waiting = waiting
        self._most = most
        self._head_bytes = 0
        self._part: Part = "head"
        """What is to come next of a request; `idle` between two."""
        self._timed: Part = "idle"
        """The part that the timer is for."""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; when there are too many, the one that waits longest has to go."""
        super().connection_made(transport)  # type: ignore[arg-type]
        if len(self.connections) > self._most and self._waiting:
            next(iter(self._waiting)).transport.abort()
        self._waiting[self] = None
        self._time()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._part = "idle"
        self._time()
        self._waiting.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, unless it is a head without an end; most requests come whole, and need no timer."""
        super().data_received(data)
        if self._part == "head":
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self._refuse(431)
                return
        if self._part != self._timed:
            self._time()

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._part, self._head_bytes = "head", 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Wait for the body."""
        self._part = "body"
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Wait for nothing any more: what takes time now is the answer."""
        self._part = "idle"
        self._waiting.pop(self, None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request; how long it may take is uvicorn's to say."""
        if self._part == "idle":
            self._waiting[self] = None
        super().on_response_complete()

    def _time(self) -> None:
        """Let what is to come next have its time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timed = self._part
        if self._part != "idle":
            timeout_s = HEAD_TIMEOUT_S if self._part == "head" else BODY_TIMEOUT_S
            self._timer = self.loop.call_later(timeout_s, self._refuse, 408)

    def _refuse(self, status: int) -> None:
        """Say why where an answer has not begun, and close."""
        if self.transport.is_closing():
            return
        if self._part == "head" and self._head_bytes and (self.cycle is None or self.cycle.response_complete):
            self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()
