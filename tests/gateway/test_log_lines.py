"""The log of requests never holds them up: not by a reader that is slow, nor by one that is gone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os

import pytest

from largeforge.gateway import log_lines
from largeforge.gateway.log_lines import Lines


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def read_lines(reader, until):
    data = b""
    while until not in data:
        data += os.read(reader, 65_536)
    return [json.loads(line) for line in data.splitlines()]


async def test_a_reader_that_is_slow_gets_whole_lines_and_how_many_are_missing(pipe, monkeypatch):
    monkeypatch.setattr(log_lines, "MOST_WAITING_BYTES", 20_000)
    reader, writer = pipe
    lines = Lines(writer, "test")
    for number in range(3000):
        lines("request", {"number": number, "padding": "x" * 100})
        if number % 500 == 0:
            await asyncio.sleep(0)  # returns: nothing waits for the reader
    reading = asyncio.create_task(asyncio.to_thread(read_lines, reader, b"lines dropped"))
    found = await asyncio.wait_for(reading, 30)
    told = [line["number"] for line in found if line["message"] == "request"]
    (dropped,) = [line["count"] for line in found if line["message"] == "lines dropped"]
    assert told == sorted(set(told))
    assert told[:100] == list(range(100))
    assert len(told) + dropped == 3000
    assert dropped > 1000


async def test_pieces_end_with_a_line(pipe, monkeypatch):
    _, writer = pipe
    pieces = []
    write = os.write
    monkeypatch.setattr(log_lines.os, "write", lambda to, data: pieces.append(data) or write(to, data))
    lines = Lines(writer, "test")
    for number in range(200):
        lines("request", {"number": number})
    await asyncio.sleep(0)
    assert len(pieces) > 1
    assert all(piece.endswith(b"}\n") and len(piece) <= 4096 for piece in pieces)
    assert b"".join(pieces).count(b"\n") == 200


async def test_a_reader_that_is_gone_is_no_error(pipe):
    reader, writer = pipe
    os.close(reader)
    raised: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    lines = Lines(writer, "test")
    for _ in range(2):
        lines("request", {})
        await asyncio.sleep(0)
    assert raised == []


async def test_a_file_gets_all_of_a_turn_in_one_write(tmp_path, monkeypatch):
    with (tmp_path / "log").open("wb") as file:
        pieces = []
        monkeypatch.setattr(log_lines.os, "write", lambda to, data: pieces.append(data) or len(data))
        lines = Lines(file.fileno(), "test")
        for number in range(200):
            lines("request", {"number": number})
        await asyncio.sleep(0)
    assert [piece.count(b"\n") for piece in pieces] == [200]
