"""Requests over a WebSocket: chunks as messages, cancelling, and errors that do not end the connection."""

from __future__ import annotations

import asyncio
import json

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

CHAT = {"messages": [{"role": "user", "content": "order"}]}


def socket(world, path="/v1/chat/completions", **options):
    return connect(world.gateway.url.replace("http", "ws") + path, proxy=None, **options)


async def ask(connection, body) -> list[dict]:
    """Send one request and return all messages up to the one that ends its answer."""
    await connection.send(body if isinstance(body, str | bytes) else json.dumps(body))
    messages = []
    while True:
        messages.append(json.loads(await connection.recv()))
        if messages[-1].get("type"):
            return messages


def text(chunks) -> str:
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


async def test_chunks_are_messages_and_the_connection_serves_again(world):
    async with socket(world) as connection:
        *chunks, done = await ask(connection, CHAT)
        assert text(chunks) == "I am support"
        assert chunks[0]["object"] == "chat.completion.chunk"
        assert done["type"] == "done"
        assert done["headers"]["x-largeforge-expert"] == "support"
        assert done["headers"]["x-request-id"]
        *chunks, again = await ask(connection, {**CHAT, "model": "mapper"})
        assert text(chunks) == "I am mapper"
        assert again["headers"]["x-request-id"] != done["headers"]["x-request-id"]
    assert world.experts["support"].requests[0]["stream"] is True


async def test_whole_answer_when_no_stream_is_asked_for(world):
    async with socket(world) as connection:
        answer, done = await ask(connection, {**CHAT, "stream": False})
    assert answer["choices"][0]["message"]["content"] == "I am support"
    assert done["type"] == "done"


async def test_completions_and_binary_messages(world):
    async with socket(world, "/v1/completions") as connection:
        *chunks, _ = await ask(connection, json.dumps({"prompt": "stream", "model": "general"}).encode())
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "I am general"


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [("{", 400, None), ("[1]", 400, None), ("{}", 400, "messages"), ('{"messages": 5}', 400, "messages")],
)
async def test_errors_are_messages_and_the_connection_goes_on(world, body, status, param):
    async with socket(world) as connection:
        (error,) = await ask(connection, body)
        assert (error["type"], error["status"]) == ("error", status)
        assert error["error"]["type"] == "invalid_request_error"
        assert error["error"]["param"] == param
        assert len(await ask(connection, CHAT)) > 2


async def test_cancel_stops_the_expert(world, events):
    script = world.experts["support"].script = asyncio.Queue()
    script.put_nowait(events.event("one"))
    async with socket(world) as connection:
        await connection.send(json.dumps(CHAT))
        assert json.loads(await connection.recv())["choices"][0]["delta"]["content"] == "one"
        await connection.send('{"type": "cancel"}')
        done = json.loads(await connection.recv())
        assert (done["type"], done["cancelled"]) == ("done", True)
        await world.experts["support"].cancelled.wait()
        assert len(await ask(connection, {**CHAT, "model": "general"})) > 2


async def test_client_that_goes_away_stops_the_expert(world, events):
    script = world.experts["support"].script = asyncio.Queue()
    script.put_nowait(events.event("one"))
    async with socket(world) as connection:
        await connection.send(json.dumps(CHAT))
        await connection.recv()
    await world.experts["support"].cancelled.wait()
    await world.counted("requests_total", expert="support", status="499")


async def test_second_request_is_refused_and_the_first_goes_on(world, events):
    script = world.experts["support"].script = asyncio.Queue()
    script.put_nowait(events.event("one"))
    async with socket(world) as connection:
        await connection.send(json.dumps(CHAT))
        await connection.recv()
        (busy,) = await ask(connection, CHAT)
        assert (busy["status"], busy["error"]["code"]) == (409, "busy")
        for piece in (events.event("two"), events.done, None):
            script.put_nowait(piece)
        assert json.loads(await connection.recv())["choices"][0]["delta"]["content"] == "two"
        assert json.loads(await connection.recv())["type"] == "done"


async def test_death_in_the_middle_is_an_error(world, events):
    script = world.experts["support"].script = asyncio.Queue()
    for piece in (events.event("one"), b'data: {"half', events.die):
        script.put_nowait(piece)
    async with socket(world) as connection:
        first, error = await ask(connection, CHAT)
    assert first["choices"][0]["delta"]["content"] == "one"
    assert (error["type"], error["error"]["code"]) == ("error", "expert_died")


async def test_too_large(make_world):
    world = await make_world(max_body_mib=0.1)
    async with socket(world) as connection:
        (error,) = await ask(connection, {"messages": [{"role": "user", "content": "x" * 200_000}]})
        assert (error["status"], error["error"]["code"]) == (413, "request_too_large")
        assert len(await ask(connection, CHAT)) > 2


async def test_pages_of_other_sites_cannot_connect(world):
    with pytest.raises(InvalidStatus) as refused:
        await socket(world, origin="https://evil.example").__aenter__()
    assert refused.value.response.status_code == 403
    async with socket(world, origin=world.gateway.url) as connection:
        assert len(await ask(connection, CHAT)) > 2


async def test_gateway_that_stops_closes_the_connection(world):
    async with socket(world) as connection:
        world.gateway.server.should_exit = True
        with pytest.raises(ConnectionClosed):
            await connection.recv()
