"""The same requests over a WebSocket, on the same paths as over HTTP (`/v1/chat/completions`, `/v1/completions`).

The client sends the JSON of a request as one message. It gets each chunk of the stream as a message, unchanged, and
then `{"type": "done", "headers": {...}}`; or one `{"type": "error", "status": ..., "error": {...}}` in OpenAI's shape.
A request that says `"stream": false` gets its whole answer as the one message before that. `{"type": "cancel"}`, or
going away, stops the expert. One request at a time on a connection, as many as one likes after another.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from largeforge.gateway.clients.sockets import ENDS
from largeforge.gateway.errors import ApiError
from largeforge.gateway.kinds import PATHS

if TYPE_CHECKING:
    from starlette.routing import BaseRoute
    from starlette.types import Receive, Scope, Send

    from largeforge.gateway.loopback import Headers, Loopback

STREAMED = ("chat", "completion")
"""Kinds whose answers come in pieces."""

ENDING = b""
"""Stands for the word of the server that the gateway ends."""

_DATA = b"data:"
_DONE = b"[DONE]"
_OF_THE_CONNECTION = (
    b"connection", b"content-length", b"content-type", b"host", b"transfer-encoding", b"upgrade", b"x-request-id",
)  # fmt: skip
"""Headers of the handshake that do not go with each request."""


def routes(loopback: Loopback) -> list[BaseRoute]:
    """Return the routes for all kinds of requests that can be streamed."""
    return [WebSocketRoute(path, Socket(path, loopback)) for path, kind in PATHS.items() if kind in STREAMED]


class Socket:
    """The endpoint of one path."""

    def __init__(self, path: str, loopback: Loopback):
        self._path = path
        self._loopback = loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection until the client goes away."""
        socket = WebSocket(scope, receive, send)
        if not _is_same_origin(socket):
            await socket.close()  # before it is accepted: 403
            return
        await socket.accept()
        with contextlib.suppress(WebSocketDisconnect):
            await self._serve(socket)

    async def _serve(self, socket: WebSocket) -> None:
        running: asyncio.Task[None] | None = None
        ending: asyncio.Task[None] | None = None
        gone = asyncio.Event()
        try:
            while True:
                message = await _next_message(socket)
                is_free = running is None or running.done()
                if message is ENDING:
                    ending = asyncio.create_task(self._end(socket, running))
                elif message is None:
                    gone.set()
                elif ending is not None:
                    pass  # the connection closes, and says why
                elif not is_free:
                    busy = "A request is being answered on this connection; cancel it, or open another connection."
                    await socket.send_text(_error(ApiError(409, busy, code="busy")))
                else:
                    gone = asyncio.Event()
                    running = asyncio.create_task(self._answer(socket, message, gone))
        finally:
            gone.set()
            await asyncio.gather(*filter(None, (running, ending)), return_exceptions=True)

    async def _end(self, socket: WebSocket, running: asyncio.Task[None] | None) -> None:
        """Close the connection after its last answer, in a way that asks the client to connect again."""
        if running is not None:
            await asyncio.gather(running, return_exceptions=True)
        await socket.close(1012)

    async def _answer(self, socket: WebSocket, message: bytes, gone: asyncio.Event) -> None:
        sink = _Messages(socket, gone)
        await self._loopback.call(
            self._path,
            _streaming(message),
            sink,
            source="websocket",
            headers=_headers(socket),
            gone=gone,
            client=(socket.client.host, socket.client.port) if socket.client else None,
        )
        await sink.end(cancelled=gone.is_set())


class _Messages:
    """Turns an answer into messages: the data of each event, or the whole of an answer that is not streamed."""

    def __init__(self, socket: WebSocket, gone: asyncio.Event):
        self._socket = socket
        self._gone = gone
        self._status = 0
        self._is_stream = False
        self._headers: dict[str, str] = {}
        self._held = b""
        self._has_failed = False

    async def start(self, status: int, headers: Headers) -> None:
        """Keep the head for the end."""
        self._status = status
        given = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        self._is_stream = given.get("content-type", "").startswith("text/event-stream")
        self._headers = {name: value for name, value in given.items() if name.startswith("x-") or name == "retry-after"}

    async def piece(self, data: bytes) -> None:
        """Send the events that are complete."""
        if not self._is_stream:
            self._held += data
            return
        *lines, self._held = (self._held + data).split(b"\n")
        for line in lines:
            await self._event(line)

    async def end(self, *, cancelled: bool) -> None:
        """Send what is left and say that this was all."""
        if cancelled:
            await self._control({"type": "done", "cancelled": True})
            return
        if self._is_stream:
            await self._event(self._held)
        elif self._status == 200:
            await self._send(self._held)
        else:
            await self._fail(self._held)
        if not self._has_failed:
            await self._control({"type": "done"})

    async def _event(self, line: bytes) -> None:
        data = line.removeprefix(_DATA).strip()
        if not line.startswith(_DATA) or data == _DONE:
            return
        if data.startswith(b'{"error"'):
            self._status = 502
            await self._fail(data)
            return
        await self._send(data)

    async def _fail(self, body: bytes) -> None:
        self._has_failed = True
        try:
            error = orjson.loads(body)["error"]
        except (ValueError, KeyError, TypeError):
            error = {"message": "The answer is no JSON.", "type": "server_error", "param": None, "code": None}
        await self._control({"type": "error", "status": self._status or 500, "error": error})

    async def _control(self, message: dict[str, Any]) -> None:
        await self._send(orjson.dumps({**message, "headers": self._headers}))

    async def _send(self, data: bytes) -> None:
        try:
            await self._socket.send_text(data.decode("utf-8", "replace"))
        except WebSocketDisconnect:
            self._gone.set()


async def _next_message(socket: WebSocket) -> bytes | None:
    """Return the next message, or None for one that cancels.

    Raises WebSocketDisconnect when the client has gone.
    """
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005))
    if ENDS in message:
        return ENDING
    text = message.get("text")
    data = text.encode() if text is not None else message["bytes"]
    return None if len(data) < 100 and _is_cancel(data) else data


def _is_cancel(data: bytes) -> bool:
    try:
        message = orjson.loads(data)
    except ValueError:
        return False
    return isinstance(message, dict) and message.get("type") == "cancel"


def _streaming(body: bytes) -> bytes:
    """Return a request that asks for a stream unless it says whether it does; what is no request stays as it is."""
    try:
        request = orjson.loads(body)
    except ValueError:
        return body
    if not isinstance(request, dict) or not request or "stream" in request:
        return body
    return b'{"stream":true,' + body.lstrip()[1:]


def _headers(socket: WebSocket) -> Headers:
    return [
        (name, value)
        for name, value in socket.scope["headers"]
        if name not in _OF_THE_CONNECTION and not name.startswith(b"sec-websocket-")
    ]


def _is_same_origin(socket: WebSocket) -> bool:
    """Return whether a page of another site is not behind this: browsers send its origin, and let any page connect."""
    origin = socket.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == socket.headers.get("host")


def _error(error: ApiError) -> str:
    return orjson.dumps({"type": "error", "status": error.status, **error.body(), "headers": {}}).decode()
