"""Clients that never finish a request: they hold little, not for long, and nobody else waits for them."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
from prometheus_client import CollectorRegistry

from largeforge.gateway.app import create_app
from largeforge.gateway.clients import client as client_module
from largeforge.gateway.clients import room
from tests.gateway.conftest import FakeVllm, Running, Server, gateway_file, listen, serve
from tests.gateway.raw import rest

MOST = 40


@pytest.fixture
async def gateway() -> AsyncIterator[Running]:
    """A gateway that takes 40 connections at once."""
    expert = await serve(FakeVllm().app)
    app = create_app(gateway_file({"general": expert.url}), registry=CollectorRegistry())
    listener, url = listen()
    server = Server(app, MOST)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    await asyncio.to_thread(server.serving.wait)
    yield Running(server, task, url)
    server.should_exit = True
    await asyncio.gather(task, expert.stop())


def connect(gateway: Running) -> socket.socket:
    url = httpx.URL(gateway.url)
    found = socket.create_connection((url.host, url.port))
    found.settimeout(10)
    return found


async def chat(gateway: Running) -> int:
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client:
        answer = await client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "hi"}]})
    return answer.status_code


async def said(client: socket.socket) -> bytes:
    """Return what a connection still gives until it is closed."""
    return await asyncio.to_thread(rest, client)


def status_of_answer(client: socket.socket) -> int:
    """Read one whole answer, and return its status."""
    answer = http.client.HTTPResponse(client)
    answer.begin()
    answer.read()
    return answer.status


async def test_more_connections_than_there_is_room_for_do_not_stop_service(gateway):
    beginnings = (b"", b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n",
                  b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")  # fmt: skip
    held = []
    for number in range(4 * MOST):
        held.append(connect(gateway))
        held[-1].sendall(beginnings[number % 3])
        if number % 20 == 0:
            assert await chat(gateway) == 200
    assert await chat(gateway) == 200
    assert await said(held[0]) == b"", "the one that waited longest has gone"
    for client in held:
        client.close()


@pytest.mark.parametrize(
    ("limit", "sent", "answer"),
    [
        ("HEAD_TIMEOUT_S", b"", b""),
        ("HEAD_TIMEOUT_S", b"POST / HTT", b"HTTP/1.1 408"),
        ("BODY_TIMEOUT_S", b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{", b""),
    ],
    ids=["silence", "half a head", "half a body"],
)
async def test_what_does_not_come_in_time_is_not_waited_for(gateway, monkeypatch, limit, sent, answer):
    monkeypatch.setattr(client_module, limit, 0.1)
    with connect(gateway) as client:
        client.sendall(sent)
        assert (await said(client)).startswith(answer)
    assert await chat(gateway) == 200


async def test_a_connection_serves_on_after_its_first_request(gateway, monkeypatch):
    monkeypatch.setattr(client_module, "BODY_TIMEOUT_S", 0.2)
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client:
        for _ in range(3):
            assert (await client.get("/v1/models")).status_code == 200
            await asyncio.sleep(0.15)


async def test_long_bodies_that_come_in_large_pieces_follow_each_other_on_one_connection(gateway):
    body = json.dumps({"messages": [{"role": "user", "content": "x" * 300_000}]}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    with connect(gateway) as client:
        for _ in range(3):
            client.sendall(head + body[:150_000])
            assert await chat(gateway) == 200  # the first piece is read by now, and it is all there is
            client.sendall(body[150_000:])
            assert await asyncio.to_thread(status_of_answer, client) == 200


async def test_a_head_without_an_end_is_refused_soon(gateway):
    with connect(gateway) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n")
        sent = 0
        try:
            for _ in range(100):
                sent += client.send(b"x-more: " + b"y" * 8192 + b"\r\n")
                await asyncio.sleep(0)
        except OSError:
            pass
        assert b" 431 " in await said(client)
        assert sent < 800_000
    assert await chat(gateway) == 200


async def test_websockets_that_ask_for_nothing_leave_room_for_others(gateway):
    head = b"host: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    key = b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    statuses, held = [], []
    for _ in range(MOST):
        held.append(connect(gateway))
        held[-1].sendall(b"GET /v1/chat/completions HTTP/1.1\r\n" + head + key)
        statuses.append(int((await asyncio.to_thread(held[-1].recv, 4096))[9:12]))
    assert statuses == [101] * (MOST // 2) + [503] * (MOST // 2)
    assert await chat(gateway) == 200
    for client in held:
        client.close()


async def test_a_body_that_was_answered_before_its_end_is_not_read_for_long(gateway, monkeypatch):
    monkeypatch.setattr(client_module, "REST_TIMEOUT_S", 0.1)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n"
    with connect(gateway) as client:
        client.sendall(head + b"x" * 1000)
        assert b" 413 " in await said(client)
    assert await chat(gateway) == 200


async def test_the_rest_of_an_answered_body_may_come_and_the_connection_serves_on(gateway):
    with connect(gateway) as client:
        client.sendall(b"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 200000\r\n\r\n" + b"x" * 1000)
        assert b" 404 " in await asyncio.to_thread(client.recv, 65536)
        client.sendall(b"x" * 199_000 + b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert b" 200 " in await said(client)


async def test_bodies_that_never_end_hold_only_so_much_together(gateway, monkeypatch):
    monkeypatch.setattr(room, "MOST_HELD_BYTES", 1_000_000)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 200000\r\n\r\n"
    held = []
    for _ in range(20):
        held.append(connect(gateway))
        held[-1].sendall(head + b"x" * 100_000)
        assert await chat(gateway) == 200
    for gone in held[:8]:
        assert await said(gone) == b"", "those that held something for the longest have gone"
    held[-1].sendall(b"x" * 100_000)
    assert b" 400 " in await asyncio.to_thread(held[-1].recv, 65536), "the last is read to its end, and was no JSON"
    for client in held:
        client.close()


def test_the_limit_of_open_files_leaves_room_for_servers():
    assert room.most_connections() >= 64
