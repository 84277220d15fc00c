"""Requests that ask for another protocol: WebSockets get it, others are answered in HTTP/1.1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from largeforge.gateway import heads
from largeforge.gateway.clients.refusals import refusal
from largeforge.gateway.errors import ApiError

if TYPE_CHECKING:
    from largeforge.gateway.clients.room import Room


class _Rest:
    """Takes the body of a request that asks for another protocol and does not get it."""

    def __init__(self, client: Upgrading):
        self.on_body = client.on_body
        self.on_message_complete = client.on_message_complete


class Upgrading(HttpToolsProtocol):
    """A connection that may become that of a WebSocket."""

    cycle: Any
    """The request that came last, uvicorn's or ours."""
    transport: Any
    """Joined with all others."""

    def __init__(self, room: Room, *arguments: Any, **keywords: Any):
        super().__init__(*arguments, **keywords)
        self._room = room
        self._is_broken = False
        """Whether nothing more is read: the answers that are under way are the last."""

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over, unless half of all carry WebSockets: those need not ask for anything, ever."""
        if self._room.is_closing:
            self._refuse_upgrade("The gateway ends; connect again.", code="ending")
        elif 2 * sum(not isinstance(other, Upgrading) for other in self.connections) < self._room.most:
            super().handle_websocket_upgrade()
        else:
            self._refuse_upgrade("There are too many WebSockets.", code="overloaded")

    def _refuse_upgrade(self, message: str, *, code: str) -> None:
        self.transport.write(refusal(ApiError(503, message, code=code, retry_after_s=1)))
        self.transport.close()

    def _should_upgrade(self) -> bool:
        is_alone = self.cycle is None or self.cycle.response_complete
        is_handshake = is_alone and self.parser.get_method() == b"GET" and not heads.framing(self.headers)
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

    def _feed(self, data: bytes) -> bool:
        """Parse what came; return whether the connection goes on as it was."""
        raise NotImplementedError
