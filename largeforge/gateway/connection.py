"""HTTP/1.1 to one server: connections that stay open, one request at a time on each, answers as they arrive.

    pool = Pool("http://127.0.0.1:8000", connect_timeout_s=2)
    answer = await pool.request(b"POST", b"/v1/completions", head, body)
    answer.status, answer.headers[b"content-type"]
    body = await answer.read(limit)              # or: async for piece in answer.pieces(): ...
    answer.close()                               # a connection whose answer was not read to its end is cut

Parsing is httptools' (llhttp), as in uvicorn. It does what a gateway needs of its own servers and no more: no
redirects, no cookies, no proxies, no compression.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import urlsplit

import httptools

from largeforge.gateway.writing import Joined
from largeforge.tls import client_context, said

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEEPALIVE_S = 4.0
"""Idle connections are dropped before vLLM drops them (VLLM_HTTP_TIMEOUT_KEEP_ALIVE is 5 s)."""
MOST_HEAD_BYTES = 65_536
"""Largest head of an answer."""
HIGH_WATER_BYTES = 262_144
"""Bytes of an answer that wait for a slow client before reading stops."""

TLS_REFUSAL_S = 1.0
"""A server that closes a new connection so soon, before a byte of an answer, may not like our certificate."""
TLS_SHUTDOWN_S = 2.0
"""How long a server may take to agree to the end of TLS."""

Why = Literal["refused", "connect-timeout", "reset", "broken", "tls"]


class ConnectionFailed(Exception):
    """No answer, or not all of it: could not connect, the connection broke, or what came is not HTTP.

    `is_stale` says that an idle connection was closed by the server as it was used again: nothing was answered, and
    another connection may well work. `detail` says what TLS found wrong.
    """

    def __init__(self, why: Why, *, is_stale: bool = False, detail: str = ""):
        super().__init__(why)
        self.why, self.is_stale, self.detail = why, is_stale, detail


class Answer:
    """One answer of a server; its head is here, its body comes."""

    __slots__ = ("_buffered", "_connection", "_failed", "_pieces", "_waiter", "headers", "is_whole", "status")

    def __init__(self, connection: _Connection):
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        """Names in lower case; of several with one name the last."""
        self.is_whole = False
        """Whether the body has come to its end."""
        self._connection = connection
        self._pieces: deque[bytes] = deque()
        self._buffered = 0
        self._failed: ConnectionFailed | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def read(self, most_bytes: int) -> bytes:
        """Return the whole body; raises ConnectionFailed when it breaks off, or is larger than `most_bytes`."""
        taken: list[bytes] = []
        size = 0
        while piece := await self.piece():
            size += len(piece)
            if size > most_bytes:
                self.close()
                raise ConnectionFailed("broken")
            taken.append(piece)
        return taken[0] if len(taken) == 1 else b"".join(taken)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives; raises ConnectionFailed when it breaks off."""
        while piece := await self.piece():
            yield piece

    async def piece(self) -> bytes:
        """Return what has arrived since the last call, or the next of it; empty at the end."""
        while not self._pieces:
            if self._failed is not None:
                raise self._failed
            if self.is_whole:
                return b""
            self._waiter = self._connection.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        piece = self._pieces.popleft() if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        if self._buffered > HIGH_WATER_BYTES:
            self._connection.resume()
        self._buffered = 0
        return piece

    def close(self) -> None:
        """Cut the connection unless the body came to its end, which tells the server to stop."""
        if not self.is_whole:
            self._connection.cut()

    def take(self, piece: bytes) -> None:
        """Add to the body."""
        self._pieces.append(piece)
        self._buffered += len(piece)
        if self._buffered > HIGH_WATER_BYTES:
            self._connection.pause()
        self._wake()

    def finish(self, failed: ConnectionFailed | None = None) -> None:
        """End the body, for good or ill."""
        if failed is None:
            self.is_whole = True
        else:
            self._failed = failed
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Pool:
    """The connections to one server."""

    def __init__(self, url: str, *, connect_timeout_s: float, tls: ssl.SSLContext | None = None):
        """Take the server's address; `tls` is for https, and without it the system's authorities are."""
        parts = urlsplit(url)
        self._is_https = parts.scheme == "https"
        self.tls = tls
        """What new connections are made with."""
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._is_https else 80)
        self._connect_timeout_s = connect_timeout_s
        self._idle: deque[_Connection] = deque()
        self._open: set[_Connection] = set()
        self._is_retired = False
        self._host_header = b"host: %b\r\n" % parts.netloc.rpartition("@")[2].encode()

    async def request(self, method: bytes, path: bytes, head: bytes = b"", body: bytes = b"") -> Answer:
        """Send a request and return the answer once its head is here.

        `head` are further header lines, each ended by CRLF; length and host are added. A request that found an idle
        connection closed is sent once more on a new one.

        Raises ConnectionFailed when there is no answer.
        """
        length = b"content-length: %d\r\n" % len(body) if body or method != b"GET" else b""
        start = b"".join((method, b" ", path, b" HTTP/1.1\r\n", self._host_header, length, head, b"\r\n"))
        connection = self._reused()
        if connection is not None:
            try:
                return await connection.exchange(start, body)
            except ConnectionFailed as failed:
                if not failed.is_stale:
                    raise
        connection = await self._connect()
        return await connection.exchange(start, body)

    def close(self) -> None:
        """Cut all connections."""
        for connection in list(self._open):
            connection.cut()

    def retire(self) -> None:
        """Keep no connection any more: those that are idle are cut now, the others once their answer was read."""
        self._is_retired = True
        while self._idle:
            self._idle.pop().cut()

    def give_back(self, connection: _Connection) -> None:
        """Keep a connection whose answer was read for the next request."""
        if self._is_retired:
            connection.cut()
            return
        connection.idle_since = time.monotonic()
        self._idle.append(connection)

    def forget(self, connection: _Connection) -> None:
        """Note that a connection is closed."""
        self._open.discard(connection)

    def _reused(self) -> _Connection | None:
        """Return the connection that was used last; those that were idle for too long are closed."""
        youngest = time.monotonic() - KEEPALIVE_S
        while self._idle and (self._idle[0].is_closed or self._idle[0].idle_since < youngest):
            self._idle.popleft().cut()
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed:
                return connection
        return None

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        tls: dict[str, Any] = {}
        if self._is_https:
            self.tls = self.tls or client_context()
            tls = {"ssl": self.tls, "ssl_shutdown_timeout": TLS_SHUTDOWN_S}
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self, loop), self._host, self._port, **tls
                )
        except TimeoutError as error:
            raise ConnectionFailed("connect-timeout") from error
        except ssl.SSLError as error:
            raise ConnectionFailed("tls", detail=said(error)) from error
        except OSError as error:
            if tls and isinstance(error, (ConnectionResetError, ConnectionAbortedError)):
                raise ConnectionFailed("tls", detail="closed the connection during the handshake") from error
            raise ConnectionFailed("refused") from error
        self._open.add(connection)
        return connection


class _Connection(asyncio.Protocol):
    """One connection, which carries one request at a time."""

    def __init__(self, pool: Pool, loop: asyncio.AbstractEventLoop):
        self.loop = loop
        self.idle_since = 0.0
        self.is_closed = False
        self._pool = pool
        self._transport: Joined
        self._parser: httptools.HttpResponseParser
        self._answer: Answer | None = None
        self._head: asyncio.Future[None] | None = None
        self._head_bytes = 0
        self._was_used = False
        self._made_at = 0.0
        self._ends_by_closing = False

    async def exchange(self, start: bytes, body: bytes) -> Answer:
        """Send a request and return the answer once its head is here."""
        answer = self._answer = Answer(self)
        self._head = self.loop.create_future()
        self._head_bytes = 0
        self._parser = httptools.HttpResponseParser(self)
        if body:
            self._transport.writelines((start, body))
        else:
            self._transport.write(start)
        try:
            await self._head
        except BaseException:
            if self._answer is answer:  # else it was answered as it was cancelled, and may carry another by now
                self.cut()
            raise
        return answer

    def pause(self) -> None:
        """Read no more until `resume`."""
        if not self.is_closed:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if not self.is_closed:
            self._transport.resume_reading()

    def cut(self) -> None:
        """Close at once; what is being answered fails."""
        if not self.is_closed:
            self._transport.abort()
            self._lost(ConnectionFailed("reset"))

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = Joined(cast("asyncio.Transport", transport), self.loop)  # uvloop's is none by inheritance
        self._made_at = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        if self._answer is None:  # nobody asked
            self.cut()
            return
        try:
            self._parser.feed_data(data)
            self._head_bytes += len(data)
            if self._head is not None and self._head_bytes > MOST_HEAD_BYTES:
                raise httptools.HttpParserError("the head is too large")
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(ConnectionFailed("broken"))

    def eof_received(self) -> None:
        """Close as the server does."""

    def connection_lost(self, error: Exception | None) -> None:
        """Tell whoever waits."""
        answer = self._answer
        if answer is not None and self._head is None and self._ends_by_closing and error is None:
            self._answer = None
            answer.finish()
        if (detail := self._tls_fault(error)) and not self._was_used:
            self._lost(ConnectionFailed("tls", detail=detail))
            return
        self._lost(ConnectionFailed("reset", is_stale=self._was_used and not self._head_bytes))

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        if self._answer is not None:
            self._answer.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Hand the answer out."""
        answer, head = self._answer, self._head
        if answer is None or head is None:
            return
        answer.status = self._parser.get_status_code()
        self._ends_by_closing = not (b"content-length" in answer.headers or b"transfer-encoding" in answer.headers)
        if answer.status >= 200:
            self._head = None
            if not head.done():
                head.set_result(None)

    def on_body(self, body: bytes) -> None:
        """Add to the answer."""
        if self._answer is not None:
            self._answer.take(body)

    def on_message_complete(self) -> None:
        """End the answer; the connection is free for the next."""
        answer = self._answer
        if answer is None:
            return
        if answer.status < 200:  # such as 100 Continue: the answer is still to come
            answer.headers.clear()
            return
        self._answer = None
        self._was_used = True
        keeps = self._parser.should_keep_alive() and not self._ends_by_closing
        answer.finish()
        if keeps and not self.is_closed:
            self._transport.resume_reading()
            self._pool.give_back(self)
        else:
            self._transport.close()

    def _tls_fault(self, error: Exception | None) -> str:
        """Return what the server had against our TLS, empty where it was something else.

        In TLS 1.3 it looks at our certificate only when the connection is made on our side; servers on asyncio and
        uvloop then close it without a word.
        """
        if isinstance(error, ssl.SSLError):
            return said(error)
        is_early = not self._head_bytes and self.loop.time() - self._made_at < TLS_REFUSAL_S
        if not is_early or self._transport.get_extra_info("sslcontext") is None:
            return ""
        return "closed the connection after the handshake; does it ask for another client certificate, or for one?"

    def _fail(self, failed: ConnectionFailed) -> None:
        self._transport.abort()
        self._lost(failed)

    def _lost(self, failed: ConnectionFailed) -> None:
        if not self.is_closed:
            self.is_closed = True
            self._pool.forget(self)
        answer, head = self._answer, self._head
        self._answer = self._head = None
        if head is not None and not head.done():
            head.set_exception(failed)
        elif answer is not None:
            answer.finish(failed)
