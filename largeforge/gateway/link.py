"""How a completion request came, and how its answer goes back: over ASGI, or straight over a client's connection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from largeforge.gateway.access import exchange_of
from largeforge.gateway.heads import by_name
from largeforge.gateway.loopback import SOURCE
from largeforge.gateway.request import read_body

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.types import Receive, Scope, Send

    from largeforge.gateway.access import Exchange

Headers = list[tuple[bytes, bytes]]


class Link(Protocol):
    """The way of one request and its answer."""

    path: str
    headers: Headers
    """Of the request, names in lower case."""
    given: Mapping[bytes, bytes]
    """The same by name."""
    exchange: Exchange
    is_interactive: bool
    """Whether somebody waits for the answer, rather than a batch."""

    async def body(self, max_bytes: int) -> bytes:
        """Return the body of the request; raises ApiError (413) when it is too large, and ClientGone."""

    def watch(self, gone: Callable[[], None]) -> None:
        """Have `gone` called once the client has gone away, even if it has already."""

    def unwatch(self) -> None:
        """Call nobody any more."""

    async def start(self, status: int, headers: Headers) -> None:
        """Send the head of the answer; without a content-length it is a stream."""

    async def piece(self, data: bytes, *, is_last: bool) -> None:
        """Send a part of the body, once the client has taken enough of those before."""


class AsgiLink:
    """A link over ASGI."""

    def __init__(self, scope: Scope, receive: Receive, send: Send):
        self.path: str = scope["path"]
        self.headers: Headers = scope["headers"]
        self.given: Mapping[bytes, bytes] = by_name(self.headers)
        self.exchange = exchange_of(scope)
        self.is_interactive = scope.get(SOURCE) != "batch"
        self._scope, self._receive, self._send = scope, receive, send
        self._watching: asyncio.Task[None] | None = None

    async def body(self, max_bytes: int) -> bytes:
        """Return the body of the request; raises ApiError (413) when it is too large, and ClientGone."""
        return await read_body(self._scope, self._receive, max_bytes)

    def watch(self, gone: Callable[[], None]) -> None:
        """Have `gone` called once the client has gone away, even if it has already."""
        self._watching = asyncio.create_task(self._watch(gone))

    def unwatch(self) -> None:
        """Call nobody any more."""
        if self._watching is not None:
            self._watching.cancel()

    async def start(self, status: int, headers: Headers) -> None:
        """Send the head of the answer."""
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def piece(self, data: bytes, *, is_last: bool) -> None:
        """Send a part of the body."""
        await self._send({"type": "http.response.body", "body": data, "more_body": not is_last})

    async def _watch(self, gone: Callable[[], None]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        gone()
