"""Servers that misbehave below HTTP, where the fake of vLLM cannot: what they send is bytes.

As a program (`python rogues.py`) it is a server that behaves, to be killed: it prints its port, and answers completions
and streams after a moment.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Behave = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HEALTHY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
DONE = b"data: [DONE]\n\n"
MOMENT_S = 0.01
EVENTS = 8


class Rogue:
    """A server that is healthy when asked, and does what a test says with everything else."""

    def __init__(self, behave: Behave):
        self._behave = behave
        self.url = ""
        self.seen: list[bytes] = []
        """Requests as they came."""
        self.num_open = 0
        """Connections that carry a request."""
        self.arrived = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            while True:
                request = await read_request(reader)
                if request.startswith(b"GET /health "):
                    writer.write(HEALTHY)
                    continue
                self.seen.append(request)
                self.num_open += 1
                self.arrived.set()
                try:
                    await self._behave(reader, writer)
                    await writer.drain()
                finally:
                    self.num_open -= 1
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.tasks.discard(task)
            writer.close()


@asynccontextmanager
async def running(behave: Behave) -> AsyncIterator[Rogue]:
    """A rogue that listens."""
    rogue = Rogue(behave)
    server = await asyncio.start_server(rogue, "127.0.0.1", 0)
    rogue.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield rogue
    finally:
        server.close()
        for task in list(rogue.tasks):
            task.cancel()
        await asyncio.gather(*rogue.tasks, return_exceptions=True)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """Read one request, which must say its length."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    return head + await reader.readexactly(length)


def says(*parts: bytes, closes: bool = True) -> Behave:
    """Answer with these bytes, and close the connection."""

    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        if closes:
            writer.close()
            raise ConnectionResetError

    return behave


def hangs(*parts: bytes) -> Behave:
    """Say this, then nothing until the other side goes away."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
        await reader.readexactly(1)

    return behave


def drips(data: bytes, *, again: bytes = b"") -> Behave:
    """Send byte by byte; then `again` without end."""

    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number in range(len(data)):
            writer.write(data[number : number + 1])
            await asyncio.sleep(0)
        while again:
            writer.write(again)
            await writer.drain()
            await asyncio.sleep(0.005)

    return behave


def answer(body: bytes, *, length: int | None = None, head: bytes = b"") -> bytes:
    """A whole answer in JSON; `length` is what it claims to have."""
    said = len(body) if length is None else length
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%b\r\n%b" % (said, head, body)


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked answer."""
    return b"%x\r\n%b\r\n" % (len(data), data)


async def _behave_well(seen: list[bytes], writer: asyncio.StreamWriter) -> None:
    body = json.loads(seen[-1].partition(b"\r\n\r\n")[2])
    await asyncio.sleep(MOMENT_S)
    if not body.get("stream"):
        writer.write(answer(b'{"object": "chat.completion"}'))
        return
    writer.write(STREAM)
    for number in range(EVENTS):
        await asyncio.sleep(MOMENT_S)
        writer.write(chunk(b'data: {"number": %d}\n\n' % number))
    writer.write(chunk(DONE) + b"0\r\n\r\n")


async def main() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = await read_request(reader)
                if request.startswith(b"GET "):
                    writer.write(HEALTHY)
                else:
                    await _behave_well([request], writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
