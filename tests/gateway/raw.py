"""Connections read and written byte by byte, and a gateway that is watched while they are."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.gateway.conftest import FakeVllm, Running

PATH = "/v1/chat/completions"


class Watched:
    """A gateway whose log lines are kept, and which ways requests took."""

    def __init__(self, running: Running, fake: FakeVllm, lines: asyncio.Queue[Mapping[str, Any]]):
        self.running, self.fake, self.lines = running, fake, lines
        self.ways: list[str] = []

    def connect(self) -> socket.socket:
        url = httpx.URL(self.running.url)
        found = socket.create_connection((url.host, url.port))
        found.settimeout(10)
        return found

    def room_is_empty(self) -> bool:
        """Whether no client is waited for or holds anything."""
        http: Any = self.running.server.config.http
        room = http.args[0]
        return not room._waiting and not room.holding

    def num_tasks(self) -> int:
        """How many requests uvicorn still waits for when it ends."""
        return len(self.running.server.server_state.tasks)

    async def until(self, *, num_clients: int) -> None:
        """Wait until so many clients are connected."""
        while len(self.running.server.server_state.connections) != num_clients:  # noqa: ASYNC110 - uvicorn has no event
            await asyncio.sleep(0.01)

    async def line(self) -> Mapping[str, Any]:
        return await asyncio.wait_for(self.lines.get(), 10)


def request(content: bytes, *headers: str, path: str = PATH) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: x", f"content-length: {len(content)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def chunked(content: bytes, *headers: str, path: str = PATH) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: x", "transfer-encoding: chunked", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)


def chat(**fields: Any) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": "hi"}], **fields}).encode()


def read(client: socket.socket) -> tuple[int, dict[str, str], bytes]:
    answer = http.client.HTTPResponse(client)
    answer.begin()
    headers = {name.lower(): value for name, value in answer.getheaders()}
    return answer.status, headers, answer.read()


def rest(client: socket.socket) -> bytes:
    """Return what a connection still gives until it is closed, in whatever way."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(65536):
            data += piece
    return data
