"""Completions that go from a connection to the proxy without ASGI are answered as those that go through it."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from types import SimpleNamespace

import pytest

from largeforge.gateway.clients.direct import Direct
from tests.gateway.raw import PATH, chat, chunked, read, request, rest


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (chat(), 200),
        (chat(model="general", n=2), 200),
        (chat(model="nobody"), 200),
        (chat(stream=True), 200),
        (chat(stream=True, stream_options={"include_usage": True}), 200),
        (b"{", 400),
        (b'{"messages": []}', 400),
        (b'{"model": 1, "messages": [{}]}', 400),
    ],
)
async def test_both_ways_answer_alike(watched, body, status):
    found = []
    for written in (request, chunked):
        with watched.connect() as client:
            client.sendall(written(body, "x-request-id: r-1"))
            status_found, headers, content = await asyncio.to_thread(read, client)
            assert headers.pop("date").endswith("GMT")
            found.append((status_found, headers, content))
            said = await watched.line()
            assert said["status"] == status
            assert said["bytes"] == len(found[-1][2])
    assert watched.ways == ["Direct", "AsgiLink"]
    assert found[0] == found[1]
    assert found[0][0] == status
    assert found[0][1]["x-request-id"] == "r-1"


@pytest.mark.parametrize(
    ("sent", "way"),
    [
        (request(chat(), path=PATH + "?x=1"), "AsgiLink"),
        (request(chat(), "expect: 100-continue"), "AsgiLink"),
        (request(chat(), "connection: upgrade", "upgrade: h2c"), "AsgiLink"),
        (request(chat()).replace(b"HTTP/1.1", b"HTTP/1.0"), "AsgiLink"),
        (request(chat(), "connection: close"), "Direct"),
    ],
    ids=["query", "expect", "upgrade", "HTTP/1.0", "last request"],
)
async def test_what_is_not_plain_goes_by_asgi(watched, sent, way):
    with watched.connect() as client:
        client.sendall(sent)
        got = b""
        while b" 200 OK" not in got:
            more = await asyncio.to_thread(client.recv, 65536)
            assert more, got
            got += more
        assert (b" 100 Continue" in got) == (b"expect" in sent)
    assert watched.ways == [way]


async def test_requests_sent_ahead_are_answered_in_order(watched):
    sent = [request(chat(), f"x-request-id: r-{number}") for number in range(5)]
    with watched.connect() as client:
        client.sendall(b"".join((*sent, request(chat(), "x-request-id: r-5", "connection: close"))))
        got = await asyncio.to_thread(rest, client)
    assert re.findall(rb"x-request-id: (r-\d)\r\n", got) == [b"r-%d" % number for number in range(6)]
    assert len(re.findall(rb"HTTP/1\.1 200 OK\r\n", got)) == got.count(b"I am general") == 6


async def test_a_body_may_come_byte_by_byte(watched):
    with watched.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request(chat(user="Zoë")):
            client.sendall(bytes([byte]))
            await asyncio.sleep(0)
        status, _, _ = await asyncio.to_thread(read, client)
    assert status == 200
    assert json.loads(watched.fake.bodies[-1])["user"] == "Zoë"
    assert watched.ways == ["Direct"]


async def test_the_last_answer_of_a_connection_closes_it(watched):
    with watched.connect() as client:
        client.sendall(request(chat(), "connection: close"))
        answer = await asyncio.to_thread(rest, client)
    assert b"\r\nconnection: close\r\n" in answer
    assert answer.endswith(b"}")


@pytest.mark.parametrize("sent", [request(chat())[:-5], request(chat(), "x-request-timeout: 60")])
async def test_a_client_that_leaves_is_logged(watched, sent):
    watched.fake.finish = asyncio.Event()
    with watched.connect() as client:
        client.sendall(sent)
        if sent.endswith(b"}"):
            await asyncio.to_thread(watched.fake.arrived.wait)
        else:
            await asyncio.sleep(0.05)
    said = await watched.line()
    assert (said["status"], said["error"]) == (499, "client_closed")
    if sent.endswith(b"}"):
        await asyncio.wait_for(watched.fake.cancelled.wait(), 10)


async def test_a_connection_that_is_idle_for_too_long_is_closed(watched):
    watched.running.server.config.timeout_keep_alive = 1
    with watched.connect() as busy, watched.connect() as idle:
        idle.sendall(request(chat()))
        assert (await asyncio.to_thread(read, idle))[0] == 200
        watched.fake.finish = asyncio.Event()
        busy.sendall(request(chat()))
        assert await asyncio.to_thread(rest, idle) == b""
        watched.fake.finish.set()
        assert (await asyncio.to_thread(read, busy))[0] == 200, "who waits for an answer is not idle"


async def test_a_header_can_never_become_two():
    exchange = SimpleNamespace(request_id="r")
    client = SimpleNamespace(url=PATH.encode(), headers=[], parser=SimpleNamespace(should_keep_alive=lambda: True))
    client.server_state = SimpleNamespace(default_headers=[])
    log = SimpleNamespace(begin=lambda given: exchange)
    direct = Direct(client, None, {}, log)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="more than one line"):
        await direct.start(200, [(b"x-largeforge-route", b"a\r\nset-cookie: b")])
