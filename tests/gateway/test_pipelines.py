"""Requests that follow each other on a connection before they are answered: each is answered once, nothing is left."""

from __future__ import annotations

import asyncio
import json

import pytest

from largeforge.gateway.clients import client as client_module
from tests.gateway.conftest import event
from tests.gateway.raw import chat, chunked, request, rest

UPGRADE = (
    b"GET /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@pytest.mark.parametrize("first", [request, chunked])
async def test_one_that_waited_for_another_is_not_idle_while_it_is_answered(watched, first):
    watched.running.server.config.timeout_keep_alive = 1
    watched.fake.finish = asyncio.Event()
    with watched.connect() as client:
        client.sendall(first(chat()) + request(chat(), "connection: close"))
        await asyncio.to_thread(watched.fake.arrived.wait)
        watched.fake.arrived.clear()
        watched.fake.finish.set()
        watched.fake.finish = asyncio.Event()
        await asyncio.to_thread(watched.fake.arrived.wait)
        await asyncio.sleep(1.5)
        watched.fake.finish.set()
        assert (await asyncio.to_thread(rest, client)).count(b"I am general") == 2


@pytest.mark.parametrize(
    "pipeline",
    [
        chunked(chat()) + request(chat()),
        chunked(chat()) + chunked(chat()),
        request(chat()) + chunked(chat()),
        request(chat()) + request(chat()) + request(chat()),
    ],
    ids=["ASGI, direct", "ASGI, ASGI", "direct, ASGI", "three direct"],
)
async def test_who_leaves_with_requests_waiting_is_forgotten_and_the_expert_stops(watched, pipeline):
    watched.fake.finish = asyncio.Event()
    with watched.connect() as client:
        client.sendall(pipeline)
        await asyncio.to_thread(watched.fake.arrived.wait)
    await asyncio.wait_for(watched.fake.cancelled.wait(), 10)
    assert (await watched.line())["status"] == 499
    assert watched.room_is_empty()


async def test_a_websocket_asked_for_behind_a_completion_does_not_answer_it_twice(watched):
    with watched.connect() as client:
        client.sendall(request(chat()) + UPGRADE)
        got = await asyncio.to_thread(rest, client)
    assert got.count(b"I am general") == 1
    assert len(watched.fake.bodies) == 1
    assert b" 101 " not in got
    assert watched.num_tasks() == 0


async def test_requests_in_one_piece_with_a_large_body_are_not_taken_for_a_head_without_an_end(watched):
    large = json.dumps({"messages": [{"role": "user", "content": "x" * 100_000}]}).encode()
    last = request(chat(), "connection: close")
    with watched.connect() as client:
        client.sendall(request(large) + last[:40])
        await watched.line()
        client.sendall(last[40:])
        assert (await asyncio.to_thread(rest, client)).count(b"I am general") == 2


@pytest.mark.parametrize("begun", [b"POST /v1/chat", request(chat())[:-4]], ids=["half a head", "half a body"])
async def test_half_a_request_behind_one_that_is_answered_does_not_cut_the_answer(watched, monkeypatch, begun):
    monkeypatch.setattr(client_module, "HEAD_TIMEOUT_S", 0.1)
    monkeypatch.setattr(client_module, "BODY_TIMEOUT_S", 0.1)
    watched.fake.script = asyncio.Queue()
    watched.fake.script.put_nowait(event("first"))
    with watched.connect() as client:
        client.sendall(request(chat(stream=True)) + begun)
        await asyncio.to_thread(watched.fake.arrived.wait)
        await asyncio.sleep(0.5)
        watched.fake.script.put_nowait(event("last"))
        watched.fake.script.put_nowait(None)
        got = await asyncio.to_thread(rest, client)
    assert b"first" in got
    assert b"last" in got
    assert got.endswith(b"0\r\n\r\n")


async def test_what_is_no_request_behind_one_does_not_cut_its_answer_later(watched, monkeypatch):
    monkeypatch.setattr(client_module, "HEAD_TIMEOUT_S", 0.1)
    watched.fake.finish = asyncio.Event()
    with watched.connect() as client:
        client.sendall(request(chat()) + b"\0\0nonsense\r\n\r\n")
        await asyncio.to_thread(watched.fake.arrived.wait)
        await asyncio.sleep(0.5)
        watched.fake.finish.set()
        assert b"I am general" in await asyncio.to_thread(rest, client)
