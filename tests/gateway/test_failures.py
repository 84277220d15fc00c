"""Experts that are down, broken or slow: who answers then, and with what."""

from __future__ import annotations

import asyncio

import httpx
import pytest


async def test_dead_expert_falls_back_at_once_and_says_so(make_world):
    world = await make_world(health_interval_s=60)  # the probe has not noticed: the request itself finds out
    await world.kill("support")
    answer = await world.chat("my order")
    assert answer.status_code == 200
    assert answer.headers["x-largeforge-expert"] == "general"
    assert answer.headers["x-largeforge-model"] == "registry:general/1"
    assert answer.headers["x-largeforge-route"] == "keyword:order"
    assert answer.headers["x-largeforge-fallback"] == "expert-down"
    assert answer.headers["x-largeforge-requested"] == "support"
    assert world.experts["general"].requests[0]["model"] == "general"
    assert world.metric("fallbacks_total", reason="expert-down") == 1
    await world.state("support", "down")
    assert world.metric("upstream_up", expert="support") == 0


async def test_unhealthy_expert_is_not_asked_and_comes_back(world):
    world.experts["support"].healthy = False
    await world.state("support", "down")
    answer = await world.chat(model="support")
    assert answer.headers["x-largeforge-expert"] == "general"
    assert answer.headers["x-largeforge-fallback"] == "expert-down"
    assert world.experts["support"].requests == []
    world.experts["support"].healthy = True
    await world.state("support", "up")
    answer = await world.chat(model="support")
    assert answer.headers["x-largeforge-expert"] == "support"


async def test_restarted_expert_is_found_again(world, serve_app):
    port = httpx.URL(world.servers["support"].url).port
    await world.kill("support")
    await world.state("support", "down")
    world.servers["support"] = await serve_app(world.experts["support"].app, port)
    await world.state("support", "up")
    assert (await world.chat("order")).headers["x-largeforge-expert"] == "support"


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_server_error_falls_back(world, status):
    world.experts["support"].status = status
    for stream in (False, True):
        answer = await world.chat("my order", stream=stream)
        assert answer.status_code == 200
        assert answer.headers["x-largeforge-expert"] == "general"
        assert answer.headers["x-largeforge-fallback"] == "expert-down"
    assert (await world.client.get("/ready")).json()["experts"]["support"]["state"] == "up"


async def test_connection_cut_before_the_answer_falls_back(world, make_file, serve_app):
    from largeforge.gateway.app import create_app

    async def cut(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET /health"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(cut, "127.0.0.1", 0) as cutter:
        url = f"http://127.0.0.1:{cutter.sockets[0].getsockname()[1]}"
        running = await serve_app(create_app(make_file({"general": world.servers["general"].url, "support": url})))
        body = {"model": "support", "messages": [{"role": "user", "content": "hi"}]}
        answer = await world.client.post(running.url + "/v1/chat/completions", json=body)
        await running.stop()
    assert answer.headers["x-largeforge-expert"] == "general"
    assert answer.headers["x-largeforge-fallback"] == "expert-down"


@pytest.mark.parametrize(("upstream", "status"), [(500, 502), (502, 502), (503, 503), (504, 504)])
async def test_failing_fallback_is_a_server_error(world, upstream, status):
    world.experts["general"].status = upstream
    world.experts["general"].error_headers = {"retry-after": "7"}
    answer = await world.chat()
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["type"] == "server_error"
    assert error["code"] == "expert_down"
    assert error["message"] == f"No expert could answer: 'general' answers with status {upstream}."
    assert answer.headers["retry-after"] == "7"
    assert answer.headers["x-largeforge-expert"] == "general"


async def test_nothing_left_names_both_and_says_when_to_retry(make_world):
    world = await make_world(health_interval_s=60)
    await world.kill("support")
    await world.kill("general")
    answer = await world.chat("my order")
    assert answer.status_code == 502
    message = answer.json()["error"]["message"]
    assert "'support' refuses connections" in message
    assert "'general' refuses connections" in message
    assert answer.headers["retry-after"] == "60"
    await world.state("general", "down")
    known = await world.chat()
    assert known.status_code == 503
    assert "'general' refuses connections" in known.json()["error"]["message"]
    ready = await world.client.get("/ready")
    assert ready.status_code == 503
    assert ready.json()["ready"] is False
    assert any("general" in reason for reason in ready.json()["reasons"])
    assert (await world.client.get("/health")).json() == {"status": "ok"}


@pytest.mark.parametrize("status", [400, 404, 422, 429])
async def test_client_errors_of_the_expert_pass_unchanged(world, status):
    expert = world.experts["support"]
    expert.status, expert.error_headers = status, {"retry-after": "3", "set-cookie": "a=b"}
    answer = await world.chat("order", stream=True)
    assert answer.status_code == status
    assert answer.json() == {"error": expert.error}
    assert answer.headers["retry-after"] == "3"
    assert "set-cookie" not in answer.headers
    assert answer.headers["x-largeforge-expert"] == "support"


async def test_slow_answer_ends_at_the_time_limit_and_stops_the_expert(make_world):
    world = await make_world(request_timeout_s=0.2)
    world.experts["support"].finish = asyncio.Event()
    answer = await world.chat(model="support")
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "timeout"
    await world.experts["support"].cancelled.wait()


async def test_ready_reports_every_expert(world):
    ready = await world.client.get("/ready")
    assert ready.status_code == 200
    body = ready.json()
    assert body["ready"] is True
    assert {name: state["state"] for name, state in body["experts"].items()} == {
        "general": "up",
        "support": "up",
        "mapper": "up",
    }


async def test_client_that_leaves_stops_the_expert(world):
    world.experts["general"].finish = asyncio.Event()
    async with httpx.AsyncClient(base_url=world.gateway.url, trust_env=False) as client:
        asked = asyncio.create_task(
            client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "hi"}]})
        )
        await asyncio.to_thread(world.experts["general"].arrived.wait)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await world.experts["general"].cancelled.wait()
    await world.counted("requests_total", expert="general", status="499")
