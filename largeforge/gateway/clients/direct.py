"""A completion that goes from its client's connection to the proxy and back, without ASGI between.

It stands where uvicorn has its cycle of one request and one answer, and looks like one to uvicorn. Only plain requests
take this way: of HTTP/1.1, with a length that is small enough, whole before the answer begins.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from largeforge.gateway.request import ClientGone

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from largeforge.gateway.access import RequestLog
    from largeforge.gateway.clients.client import Client
    from largeforge.gateway.link import Headers
    from largeforge.gateway.proxy import Proxy

logger = logging.getLogger(__name__)

LONG_BYTES = 16_384
"""Pieces from this size on are not copied to go out in one piece with what stands around them."""


class Direct:
    """One request and its answer; a link for the proxy."""

    is_interactive = True

    def __init__(self, client: Client, proxy: Proxy, given: Mapping[bytes, bytes], log: RequestLog):
        self.path = client.url.decode("ascii")
        self.headers: Headers = client.headers
        self.given = given
        self.exchange = log.begin(given)
        # What uvicorn reads and sets.
        self.keep_alive: bool = client.parser.should_keep_alive()
        self.more_body = True
        self.response_started = False
        self.response_complete = False

        self._client = client
        self._proxy = proxy
        self._log = log
        self._task: asyncio.Task[None] | None = None
        self._body: bytes | bytearray = b""
        self._ended: asyncio.Future[None] | None = None
        """Waits for the end of the body, where somebody does before it has come."""
        self._head = b""
        """Head of the answer until its first piece goes."""
        self._is_chunked = True
        self._is_gone = False
        self._gone: Callable[[], None] | None = None

    def take(self, piece: bytes) -> None:
        """Add to the body."""
        if not self._body:
            self._body = piece
            return
        if isinstance(self._body, bytes):
            self._body = bytearray(self._body)  # and no list: see `request.read_body`
        self._body += piece

    def end_body(self) -> None:
        """Note that the body is whole: now is the time to answer."""
        self.more_body = False
        self.begin()

    def begin(self) -> None:
        """Begin to answer, whether or not the body is whole."""
        if self._task is None:
            self._task = self._client.loop.create_task(self._answer())
            self._client.tasks.add(self._task)
        elif self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def lose_client(self) -> None:
        """Tell who answers that the client has gone, or have that noted where nobody answers yet."""
        self._is_gone = True
        if self.more_body:
            self.begin()
        elif self._gone is not None:
            self._gone()

    async def body(self, max_bytes: int) -> bytes:
        """Return the body; raises ClientGone when the client left before it was whole."""
        while self.more_body and not self._is_gone:
            self._ended = self._client.loop.create_future()
            await self._ended
        if self._is_gone:
            raise ClientGone
        return bytes(self._body)

    def watch(self, gone: Callable[[], None]) -> None:
        """Have `gone` called once the client has gone away, even if it has already."""
        if self._is_gone:
            gone()
        self._gone = gone
        self._client.flow.resume_reading()  # uvicorn pauses where a request waits, and would not see the client leave

    def unwatch(self) -> None:
        """Call nobody any more."""
        self._gone = None

    async def start(self, status: int, headers: Headers) -> None:
        """Keep the head of the answer, which goes with its first piece."""
        self.response_started = True
        lines = [STATUS_LINE[status]]
        headers = [*self._client.server_state.default_headers, *headers]
        for name, value in headers:
            if name == b"content-length":
                self._is_chunked = False
            lines += (name, b": ", value, b"\r\n")
        lines.append(b"x-request-id: %b\r\n" % self.exchange.request_id.encode())
        if self._is_chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        head = b"".join(lines)
        if head.count(b"\n") != 3 + len(headers) + self._is_chunked + (not self.keep_alive):
            raise ValueError("a header of the answer has more than one line")
        self._head = head

    async def piece(self, data: bytes, *, is_last: bool) -> None:
        """Write a part of the body, once the client has taken enough of those before."""
        flow = self._client.flow
        if flow.write_paused and not self._is_gone:
            await flow.drain()
        if self._is_gone:
            return
        self.exchange.num_bytes += len(data)
        pieces = [self._head] if self._head else []
        self._head = b""
        if not self._is_chunked:
            pieces.append(data)
        elif data:
            pieces += (b"%x\r\n" % len(data), data, b"\r\n")
        if is_last and self._is_chunked:
            pieces.append(b"0\r\n\r\n")
        if len(data) < LONG_BYTES:
            self._client.transport.write(b"".join(pieces))
        else:
            self._client.transport.writelines(pieces)
        if is_last:
            self._complete()

    def _complete(self) -> None:
        self.response_complete = True
        if not self.keep_alive:
            self._client.transport.close()
        self._client.on_response_complete()

    async def _answer(self) -> None:
        try:
            await self._proxy.answer(self)
        except Exception:
            logger.exception("request %s was not answered", self.exchange.request_id)
        finally:
            self.more_body = False
            self._client.tasks.discard(cast("asyncio.Task[None]", self._task))
            self._log.end("POST", self.path, self.exchange)
            if not self.response_complete:
                self._client.transport.abort()
