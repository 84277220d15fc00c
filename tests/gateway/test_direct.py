"""Completions that go from a connection to the proxy without ASGI are answered as those that go through it."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sys

import pytest

from largeforge.gateway import proxy, writing
from largeforge.gateway.backend import header_value
from tests.gateway.conftest import event
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


async def test_a_header_can_never_become_two(watched, monkeypatch):
    monkeypatch.setattr(proxy, "header_value", lambda text: b"a\r\nset-cookie: evil")
    with watched.connect() as client:
        client.sendall(request(chat()))
        assert await asyncio.to_thread(rest, client) == b""
    assert (await watched.line())["status"] == 500


async def test_a_client_that_reads_nothing_is_let_go_when_its_time_is_over(make_watched, monkeypatch):
    monkeypatch.setattr(proxy, "MOST_TO_FAIL_S", 0.1)
    monkeypatch.setattr(writing, "LINGER_S", 0.1)
    watched = await make_watched(request_timeout_s=1)
    for written in (request, chunked):
        watched.fake.script = asyncio.Queue()
        with watched.connect() as client:
            client.sendall(written(chat(stream=True)))
            for _ in range(200):
                watched.fake.script.put_nowait(event("x" * 100_000))
            said = await watched.line()
            assert (said["status"], said["error"]) == (504, "timeout")
            await watched.until(num_clients=0)
        assert watched.num_tasks() == 0


async def test_a_whole_answer_that_nobody_takes_is_not_kept_for_ever(watched, monkeypatch):
    monkeypatch.setattr(writing, "LINGER_S", 0.1)
    watched.running.server.config.timeout_keep_alive = 1
    watched.fake.text = "x" * 20_000_000
    with watched.connect() as client:
        client.sendall(request(chat()))
        await watched.line()
        await watched.until(num_clients=0)
    assert watched.room_is_empty()


async def test_an_upload_is_refused_at_the_end_of_the_gateway_or_answered_before(watched):
    whole = request(chat())
    with watched.connect() as half, watched.connect() as late:
        half.sendall(whole[:-5])
        late.sendall(whole[:-5])
        await watched.until(num_clients=2)
        await asyncio.sleep(0.1)
        watched.running.server.config.timeout_graceful_shutdown = 4
        watched.running.server.should_exit = True
        await asyncio.sleep(0.3)
        late.sendall(whole[-5:])
        assert b" 200 OK" in await asyncio.to_thread(rest, late)
        refused = await asyncio.to_thread(rest, half)
    assert b" 503 " in refused
    assert b"shutting_down" in refused
    assert [(await watched.line())["status"] for _ in range(2)] == [200, 503]


def test_long_names_of_models_are_not_kept():
    name = "x" * 100_000
    references = sys.getrefcount(name)
    assert header_value(name) == b"x" * 256
    assert sys.getrefcount(name) == references
