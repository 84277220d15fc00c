"""One connection to a server, whatever the server does: every ending is an answer or a typed failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from largeforge.gateway import connection
from largeforge.gateway.connection import ConnectionFailed, Pool

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Raw:
    """A server that does with each connection what a test says, and counts them."""

    def __init__(self, serve: Serve):
        self._serve = serve
        self.connections = 0
        self.arrived = asyncio.Semaphore(0)
        self.closed = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.arrived.release()
        self.tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.closed.set()
        finally:
            writer.close()


@asynccontextmanager
async def serving(serve: Serve, **options: float) -> AsyncIterator[tuple[Raw, Pool]]:
    raw = Raw(serve)
    server = await asyncio.start_server(raw, "127.0.0.1", 0)
    pool = Pool(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", **{"connect_timeout_s": 2, **options})
    try:
        yield raw, pool
    finally:
        pool.close()
        server.close()
        for task in raw.tasks:
            task.cancel()
        await asyncio.gather(*raw.tasks, return_exceptions=True)


async def asked(reader: asyncio.StreamReader) -> bytes:
    """Read one request with its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), 0)
    return head + await reader.readexactly(length)


def says(*parts: bytes, again: bool = False) -> Serve:
    """Answer with parts, a moment between them, and close; `again` keeps answering."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await asked(reader)
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
            if not again:
                return

    return serve


async def ask(pool: Pool, body: bytes = b"{}") -> tuple[int, bytes]:
    answer = await pool.request(b"POST", b"/v1/completions", b"x-request-id: 1\r\n", body)
    return answer.status, await answer.read(1000)


async def test_a_request_is_what_was_given_and_a_connection_carries_many():
    seen = []

    async def serve(reader, writer):
        while True:
            seen.append(await asked(reader))
            writer.write(OK)

    async with serving(serve) as (raw, pool):
        for _ in range(3):
            assert await ask(pool, b'{"a": 1}') == (200, b"ok")
        assert raw.connections == 1
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1:")
    assert b"\r\nx-request-id: 1" in head
    assert body == b'{"a": 1}'


async def test_requests_at_once_have_connections_of_their_own():
    gate = asyncio.Event()

    async def serve(reader, writer):
        while True:
            await asked(reader)
            await gate.wait()
            writer.write(OK)

    async with serving(serve) as (raw, pool):
        tasks = [asyncio.create_task(ask(pool)) for _ in range(5)]
        for _ in tasks:
            await raw.arrived.acquire()
        gate.set()
        assert await asyncio.gather(*tasks) == [(200, b"ok")] * 5
        assert await ask(pool) == (200, b"ok")
        assert raw.connections == 5


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n", b"1\r\nc\r\n0\r\n\r\n"], (200, b"abc")),
        ([b"HTTP/1.1 200 OK\r\n\r\nuntil", b" the end"], (200, b"until the end")),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", OK], (200, b"ok")),
        ([b"HTT", b"P/1.1 404 Not", b" Found\r\ncontent-le", b"ngth: 1\r\n\r\n", b"x"], (404, b"x")),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], (204, b"")),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"], (200, b"ok")),
    ],
    ids=["chunked", "until closed", "continue", "in pieces", "nothing", "closing"],
)
async def test_every_way_to_end_a_body_is_understood(parts, expected):
    async with serving(says(*parts)) as (_, pool):
        assert await ask(pool) == expected
        assert await ask(pool) == expected, "the next request is not disturbed"


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ([], "reset"),
        ([b'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"half"'], "reset"),
        ([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab"], "reset"),
        ([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nab"], "broken"),
        ([b"SSH-2.0-OpenSSH_9.2\r\n"], "broken"),
        ([b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000], "broken"),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n" + b"x" * 5000], "broken"),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nok"], "broken"),
    ],
    ids=["nothing", "too short", "half a chunk", "wrong chunk", "no HTTP", "endless head", "too large", "two lengths"],
)
async def test_what_is_no_whole_answer_is_a_failure(parts, why):
    async with serving(says(*parts)) as (_, pool):
        with pytest.raises(ConnectionFailed) as failed:
            await ask(pool)
        assert failed.value.why == why


async def test_an_idle_connection_that_the_server_closed_costs_nobody_a_request():
    async with serving(says(OK)) as (raw, pool):  # closes after each answer without saying so
        for _ in range(20):
            assert await ask(pool) == (200, b"ok")
        assert raw.connections == 20


async def test_connections_that_were_idle_for_long_are_not_used(monkeypatch):
    async with serving(says(OK, again=True)) as (raw, pool):
        assert await ask(pool) == (200, b"ok")
        monkeypatch.setattr(connection, "KEEPALIVE_S", -1.0)
        assert await ask(pool) == (200, b"ok")
        assert raw.connections == 2


async def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next():
    async with serving(says(OK, b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", again=True)) as (_, pool):
        assert await ask(pool) == (200, b"ok")
        for _ in range(10):
            await asyncio.sleep(0)
        assert await ask(pool) == (200, b"ok")


async def test_whoever_stops_reading_or_waiting_cuts_the_connection():
    async def serve(reader, writer):
        await asked(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n")
        await reader.readexactly(1)

    async with serving(serve) as (raw, pool):
        answer = await pool.request(b"POST", b"/", b"", b"{}")
        assert await answer.piece() == b"ab"
        answer.close()
        await asyncio.wait_for(raw.closed.wait(), 5)

    async def silent(reader, writer):
        await asked(reader)
        await reader.readexactly(1)

    async with serving(silent) as (raw, pool):
        task = asyncio.create_task(ask(pool))
        await raw.arrived.acquire()
        task.cancel()
        await asyncio.wait_for(raw.closed.wait(), 5)
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_slow_reader_stops_a_fast_server_instead_of_filling_memory():
    sent = 0

    async def serve(reader, writer):
        nonlocal sent
        await asked(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 200000000\r\n\r\n")
        for _ in range(200):
            writer.write(b"x" * 1_000_000)
            await writer.drain()
            sent += 1

    async with serving(serve) as (_, pool):
        answer = await pool.request(b"POST", b"/", b"", b"{}")
        before = -1
        while before != sent:  # until the server gets no more away
            before = sent
            await asyncio.sleep(0.05)
        assert sent < 50
        size = 0
        async for piece in answer.pieces():
            size += len(piece)
        assert size == 200_000_000


async def test_where_nobody_listens_or_accepts_is_said():
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    with pytest.raises(ConnectionFailed) as refused:
        await Pool(f"http://127.0.0.1:{port}", connect_timeout_s=2).request(b"GET", b"/health")
    assert refused.value.why == "refused"


async def test_who_leaves_just_as_the_answer_is_here_does_not_cut_what_the_next_may_be_using() -> None:
    async with serving(says(OK, again=True)) as (raw, pool):
        leaving = asyncio.create_task(pool.request(b"GET", b"/"))
        keep = pool.give_back

        def give_back(one: connection._Connection) -> None:
            keep(one)
            leaving.cancel()  # answered, and not told of it yet

        pool.give_back = give_back  # type: ignore[method-assign]
        with pytest.raises(asyncio.CancelledError):
            await leaving
        pool.give_back = keep  # type: ignore[method-assign]
        assert (await pool.request(b"GET", b"/")).status == 200
        assert raw.connections == 1


async def test_a_retired_pool_still_answers_and_keeps_no_connection() -> None:
    async with serving(says(OK, again=True)) as (raw, pool):
        assert await ask(pool) == (200, b"ok")
        pool.retire()
        assert [await ask(pool), await ask(pool)] == [(200, b"ok")] * 2
        assert raw.connections == 3 and not pool._open
