"""Writes wait for the end of a turn, lose nothing and keep their order; where turns say one thing they do not wait."""

from __future__ import annotations

import asyncio
from unittest.mock import Mock

import pytest

from largeforge.gateway.writing import ALONE, AT_ONCE, Joined


class Wire:
    """A transport that keeps what is written to it, beside all others."""

    def __init__(self, name: str, written: list[tuple[str, bytes]]):
        self.is_closed = False
        transport = Mock(spec=asyncio.Transport, is_closing=lambda: self.is_closed)
        transport.write = lambda data: written.append((name, data))
        transport.writelines = lambda pieces: written.append((name, b"".join(pieces)))
        transport.close = lambda: written.append((name, b"closed"))
        self.transport = transport
        self.joined = Joined(transport, asyncio.get_running_loop())


@pytest.fixture
def written() -> list[tuple[str, bytes]]:
    return []


async def test_what_one_turn_writes_goes_together_at_its_end(written):
    first, second = Wire("first", written), Wire("second", written)
    first.joined.write(b"1")
    second.joined.writelines([b"a", b"b"])
    first.joined.writelines([b"2", b"3"])
    assert written == []
    await asyncio.sleep(0)
    assert written == [("first", b"123"), ("second", b"ab")]
    first.joined.write(b"4")
    await asyncio.sleep(0)
    assert written[2:] == [("first", b"4")]


async def test_closing_lets_out_what_waits(written):
    wire = Wire("it", written)
    wire.joined.write(b"last words")
    wire.joined.close()
    await asyncio.sleep(0)
    assert written == [("it", b"last words"), ("it", b"closed")]


async def test_nothing_is_written_to_what_has_been_closed_meanwhile(written):
    wire, other = Wire("it", written), Wire("other", written)
    wire.joined.write(b"x")
    other.joined.write(b"y")
    wire.is_closed = True
    await asyncio.sleep(0)
    assert written == [("other", b"y")]


async def test_one_that_cannot_be_written_to_is_cut_and_keeps_nobody_waiting(written):
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    wire, other = Wire("it", written), Wire("other", written)
    wire.transport.write = Mock(side_effect=RuntimeError("the handler is closed"))
    wire.joined.write(b"x")
    other.joined.write(b"y")
    await asyncio.sleep(0)
    assert written == [("other", b"y")]
    assert [str(context["exception"]) for context in told] == ["the handler is closed"]
    wire.transport.abort.assert_called_once()


async def test_lonely_writes_go_at_once_until_it_is_looked_again(written):
    wire, other = Wire("it", written), Wire("other", written)
    for _ in range(ALONE):
        wire.joined.write(b"alone")
        await asyncio.sleep(0)
    del written[:]
    for number in range(AT_ONCE):
        wire.joined.write(b"%d" % number)
        assert len(written) == number + 1
    wire.joined.write(b"waits")
    other.joined.write(b"waits")
    assert len(written) == AT_ONCE
    await asyncio.sleep(0)
    wire.joined.write(b"there are others")
    assert len(written) == AT_ONCE + 2, "turns with several things to say have begun, so this one waits"
