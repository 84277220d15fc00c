"""Send one answer over its link: JSON at once or a stream piece by piece, and errors in either.

An error before the first byte is a JSON answer with its status; after it, the stream ends with
an event that carries the error, so that the client neither hangs nor takes it for complete.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson

from largeforge.gateway.request import ClientGone

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from largeforge.gateway.errors import ApiError
    from largeforge.gateway.link import Headers, Link
    from largeforge.gateway.timers import Timers

_EVENT_STREAM: Headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]


class Outbox:
    """The answer to one request."""

    def __init__(self, link: Link, clock: Callable[[], float]):
        self._link = link
        self._clock = clock
        self._is_finished = False
        self.status = 0
        """Status that was sent, or that of the error which ended a stream; 0 before there is one."""
        self.first_byte_at: float | None = None
        self.refusal: ApiError | None = None
        """Why the answer was broken off, set by who does it before cancelling the task."""

    async def whole(
        self, status: int, content_type: bytes, body: bytes, headers: Iterable[tuple[bytes, bytes]]
    ) -> None:
        """Send a complete answer."""
        await self._start(status, [(b"content-type", content_type), (b"content-length", b"%d" % len(body)), *headers])
        await self._finish(body)

    async def stream(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Begin a stream of server-sent events."""
        await self._start(200, [*_EVENT_STREAM, *headers])

    async def chunk(self, data: bytes) -> None:
        """Send a part of a stream."""
        await self._link.piece(data, is_last=False)

    async def end(self, data: bytes = b"") -> None:
        """End a stream."""
        await self._finish(data)

    async def error(self, error: ApiError, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Answer with an error, or end the stream that has begun with one."""
        body = orjson.dumps(error.body())
        if self._is_finished:
            return
        if self.first_byte_at is None:
            await self.whole(error.status, b"application/json", body, [*error.headers(), *headers])
            return
        self.status = error.status
        await self._finish(b"\ndata: " + body + b"\n\n")

    async def _start(self, status: int, headers: Headers) -> None:
        await self._link.start(status, headers)
        self.status = status
        self.first_byte_at = self._clock()

    async def _finish(self, body: bytes) -> None:
        self._is_finished = True
        await self._link.piece(body, is_last=True)


async def while_wanted(
    work: Coroutine[Any, Any, None],
    *,
    link: Link,
    worker: asyncio.Task[Any],
    timers: Timers,
) -> None:
    """Run `work` in the present task, `worker`, until it is done.

    Raises ClientGone when the client goes away, and TimeoutError when its time is over; the work is cancelled then. The
    task is given, since to ask for it takes a system call each time.
    """
    why: type[Exception] | None = None

    def end(reason: type[Exception] = ClientGone) -> None:
        nonlocal why
        if why is None:
            why = reason
            worker.cancel()

    timers.start(end, TimeoutError)
    link.watch(end)
    try:
        await work
    except asyncio.CancelledError:
        if why is not None and not worker.uncancel():
            raise why from None
        raise
    finally:
        timers.cancel(end)
        link.unwatch()
