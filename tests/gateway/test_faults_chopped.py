"""However a network chops an answer, it is the same answer: over the connection to a server, and over the relay."""

from __future__ import annotations

import asyncio
import itertools
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

from hypothesis import given
from hypothesis import strategies as st

from largeforge.gateway.connection import Pool, _Connection
from largeforge.gateway.proxy import _relay_lines

HEADS = (b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n", b"HTTP/1.1 404 Not Found\r\nx-a:  b \r\n")
BEFORE = (b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 2)
bodies = st.lists(
    st.binary(min_size=1, max_size=40) | st.sampled_from([b"\n", b"data: {}\n\n", b"\r\n0\r\n\r\n"]), max_size=6
)
cuts = st.lists(st.integers(0, 400), max_size=12)


def chopped(data: bytes, places: list[int]) -> list[bytes]:
    """Cut at these places, in a circle."""
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(ends)] or [data]


async def received(pieces: list[bytes], *, closes: bool) -> tuple[int, dict[bytes, bytes], bytes, bool]:
    """Return status, headers and body of what came over a connection, and whether that is kept for the next."""
    pool = Pool("http://127.0.0.1:1", connect_timeout_s=1)
    connection = _Connection(pool, asyncio.get_running_loop())
    connection.connection_made(Mock(spec=asyncio.Transport, is_closing=lambda: False))  # it goes nowhere
    asking = asyncio.create_task(connection.exchange(b"POST / HTTP/1.1\r\n\r\n", b""))
    await asyncio.sleep(0)
    for piece in pieces:
        connection.data_received(piece)
    if closes:
        connection.connection_lost(None)
    answer = await asking
    return answer.status, answer.headers, await answer.read(10**6), connection in pool._idle


@given(st.sampled_from(BEFORE), st.sampled_from(HEADS), st.sampled_from(["length", "chunks", "close"]), bodies, cuts)
def test_an_answer_of_a_server_is_the_same_however_it_is_chopped(before, head, ending, body, places):
    whole = b"".join(body)
    framed = {
        "length": b"content-length: %d\r\n\r\n%b" % (len(whole), whole),
        "chunks": b"transfer-encoding: chunked\r\n\r\n%b0\r\n\r\n"
        % b"".join(b"%x;a\r\n%b\r\n" % (len(p), p) for p in body),
        "close": b"connection: close\r\n\r\n" + whole,
    }
    data, closes = before + head + framed[ending], ending == "close"

    async def both() -> None:
        status, headers, got, is_kept = await received(chopped(data, places), closes=closes)
        assert (status, headers, got, is_kept) == await received([data], closes=closes)
        assert (status, got, is_kept) == (int(head[9:12]), whole, not closes)
        assert b"link" not in headers

    asyncio.run(both())


@given(bodies, cuts)
def test_a_stream_is_relayed_byte_for_byte_and_in_whole_lines(body, places):
    data = b"".join(body)
    sent: list[bytes] = []

    async def take(piece: bytes = b"") -> None:
        sent.append(piece)

    async def chunks() -> Any:
        for piece in chopped(data, places):
            yield piece

    answering, pace = SimpleNamespace(chunks=chunks), SimpleNamespace(piece=lambda _: None)
    asyncio.run(_relay_lines(answering, SimpleNamespace(chunk=take, end=take), pace, None))  # type: ignore[arg-type]
    assert b"".join(sent) == data
    assert all(piece.endswith(b"\n") for piece in sent[:-1])
    assert b"\n" not in sent[-1]
