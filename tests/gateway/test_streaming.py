"""Streams: as they arrive, whole events only, and an end that clients notice."""

from __future__ import annotations

import asyncio
import json

import openai
import pytest


def ask(world, **fields):
    body = {"messages": [{"role": "user", "content": "order"}], "stream": True, **fields}
    return world.client.stream("POST", "/v1/chat/completions", json=body)


@pytest.fixture
def script(world):
    world.experts["support"].script = asyncio.Queue()
    return world.experts["support"].script


async def test_pieces_arrive_before_the_next_is_made(world, script, events):
    script.put_nowait(events.event("one"))
    async with ask(world) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["x-largeforge-expert"] == "support"
        assert "content-length" not in answer.headers
        received = answer.aiter_raw()
        assert await anext(received) == events.event("one")
        for text in ("two", "three"):
            script.put_nowait(events.event(text))
            assert await anext(received) == events.event(text)
        script.put_nowait(events.done)
        script.put_nowait(None)
        assert await anext(received) == events.done
        assert [piece async for piece in received] == []


async def test_client_that_leaves_a_stream_stops_the_expert(world, script, events):
    script.put_nowait(events.event("one"))
    async with ask(world) as answer:
        await anext(answer.aiter_raw())
    await world.experts["support"].cancelled.wait()


async def test_death_before_the_first_piece_falls_back(world, script, events):
    script.put_nowait(events.die)
    async with ask(world) as answer:
        text = (await answer.aread()).decode()
    assert answer.headers["x-largeforge-expert"] == "general"
    assert answer.headers["x-largeforge-fallback"] == "expert-down"
    assert text.endswith("data: [DONE]\n\n")


async def test_death_in_the_middle_ends_with_an_error_event(world, script, events):
    for piece in (events.event("one"), b'data: {"id": "half', events.die):
        script.put_nowait(piece)
    async with ask(world) as answer:
        text = (await answer.aread()).decode()
    assert answer.status_code == 200
    assert text.startswith(events.event("one").decode())
    assert "half" not in text
    data = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line]
    assert data[-1]["error"]["code"] == "expert_died"
    assert data[-1]["error"]["type"] == "server_error"
    assert world.metric("requests_total", expert="support", status="502") == 1


async def test_openai_client_raises_on_death_in_the_middle(world, script, events):
    script.put_nowait(events.event("one"))
    async with openai.AsyncOpenAI(base_url=world.gateway.url + "/v1", api_key="x", max_retries=0) as client:
        stream = await client.chat.completions.create(
            model="support", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        pieces = aiter(stream)
        assert (await anext(pieces)).choices[0].delta.content == "one"
        script.put_nowait(events.die)
        with pytest.raises(openai.APIError, match="broke off"):
            await anext(pieces)


async def test_time_limit_ends_a_stream_with_an_error_event(make_world, events):
    world = await make_world(request_timeout_s=0.3)
    script = world.experts["support"].script = asyncio.Queue()
    script.put_nowait(events.event("one"))
    async with ask(world) as answer:
        text = (await answer.aread()).decode()
    assert '"code":"timeout"' in text
    await world.experts["support"].cancelled.wait()


async def test_event_split_across_chunks_arrives_whole(world, script, events):
    whole = events.event("é" * 10)
    for piece in (whole[:30], whole[30:31], whole[31:], events.done, None):
        script.put_nowait(piece)
    async with ask(world) as answer:
        assert await answer.aread() == whole + events.done


async def test_end_without_newline_is_kept(world, script):
    for piece in (b"data: [DONE]", None):
        script.put_nowait(piece)
    async with ask(world) as answer:
        assert await answer.aread() == b"data: [DONE]"


async def test_completions_stream_too(world):
    body = {"model": "mapper", "prompt": "x", "stream": True}
    async with world.client.stream("POST", "/v1/completions", json=body) as answer:
        text = (await answer.aread()).decode()
    assert answer.headers["x-largeforge-expert"] == "mapper"
    assert '"object": "text_completion"' in text
    assert text.endswith("data: [DONE]\n\n")


async def test_gateway_that_stops_ends_streams_with_an_error_event(world, script, events):
    script.put_nowait(events.event("one"))
    world.gateway.server.config.timeout_graceful_shutdown = 0
    async with ask(world) as answer:
        received = answer.aiter_raw()
        await anext(received)
        world.gateway.server.should_exit = True
        rest = b"".join([piece async for piece in received])
    assert b'"code":"shutting_down"' in rest
