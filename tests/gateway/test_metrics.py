"""What Prometheus sees of requests, of servers and of the queue, and what the log says of the same requests."""

from __future__ import annotations

import asyncio
import json

import pytest
from prometheus_client import CollectorRegistry

from largeforge.gateway.access import Exchange
from largeforge.gateway.app import create_app
from largeforge.gateway.metrics import Metrics

OF_SUPPORT = {"expert": "support", "model": "registry:support/1"}


async def ask_stream(world, **fields):
    body = {"messages": [{"role": "user", "content": "order"}], "stream": True, **fields}
    return await world.client.post("/v1/chat/completions", json=body)


async def test_tokens_and_times_of_whole_answers(world):
    await world.chat("order")
    await world.chat("order")
    assert world.metric("tokens_total", kind="prompt", **OF_SUPPORT) == 6
    assert world.metric("tokens_total", kind="completion", **OF_SUPPORT) == 4
    assert world.metric("request_duration_seconds_count", **OF_SUPPORT) == 2
    assert world.metric("time_to_first_token_seconds_count") == 0
    assert world.metric("errors_total") == 0


async def test_tokens_and_times_of_streams(world):
    await ask_stream(world, stream_options={"include_usage": True})
    await world.counted("requests_total", **OF_SUPPORT)
    assert world.metric("tokens_total", kind="prompt", **OF_SUPPORT) == 3
    assert world.metric("tokens_total", kind="completion", **OF_SUPPORT) == 2
    assert world.metric("time_to_first_token_seconds_count", **OF_SUPPORT) == 1
    assert world.metric("inter_token_latency_seconds_count", **OF_SUPPORT) <= len("I am support")


async def test_streams_without_usage_count_their_events(world):
    await ask_stream(world)
    await world.counted("requests_total", **OF_SUPPORT)
    assert world.metric("tokens_total", kind="completion", **OF_SUPPORT) == len("I am support") + 1
    assert world.metric("tokens_total", kind="prompt", **OF_SUPPORT) == 0


async def test_errors_are_counted_by_what_they_are(world, events):
    await world.client.post("/v1/chat/completions", content=b"{")
    world.experts["general"].status = 422
    await world.chat("hello")
    world.experts["support"].script = asyncio.Queue()
    for piece in (events.event("a"), events.die):
        world.experts["support"].script.put_nowait(piece)
    await ask_stream(world)
    await world.counted("errors_total", error="expert_died")
    assert world.metric("errors_total", error="expert_died", **OF_SUPPORT) == 1
    assert world.metric("errors_total", error="invalid_json", expert="none", model="") == 1
    assert world.metric("errors_total", error="expert_422", expert="general") == 1
    page = (await world.client.get("/metrics")).text
    assert 'tokens_total{expert="none"' not in page
    assert 'time_to_first_token_seconds_count{expert="none"' not in page
    assert world.metric("errors_total") == 3


async def test_states_of_servers_are_as_they_are(world):
    url = world.servers["mapper"].url
    await world.state("mapper", "up")
    of = {"expert": "mapper", "replica": url}
    assert world.metric("upstream_up", expert="mapper") == world.metric("replica_up", **of) == 1
    assert world.metric("replica_breaker", state="closed", **of) == 1
    assert world.metric("server_outstanding_requests", replica=url) == 0
    await world.kill("mapper")
    await world.state("mapper", "down")
    assert world.metric("upstream_up", expert="mapper") == world.metric("replica_in_use", **of) == 0
    assert world.metric("upstream_up", expert="general") == 1


async def test_the_queue_is_measured(make_world):
    world = await make_world(("general",), limit=1, queue={"length": 1, "wait_s": 0.3})
    general = world.experts["general"]
    general.finish = asyncio.Event()
    first = asyncio.create_task(world.chat())
    while not general.requests:
        await world.client.get("/health")
    waits = asyncio.create_task(world.chat())
    while world.metric("requests_waiting", expert="general") != 1:
        await world.client.get("/health")
    assert world.metric("server_outstanding_requests", replica=world.servers["general"].url) == 1
    assert (await world.chat()).status_code == 429
    assert (await waits).status_code == 503
    assert world.metric("requests_waiting", expert="general") == 0
    assert world.metric("queue_refusals_total", expert="general", reason="full") == 1
    assert world.metric("queue_refusals_total", expert="general", reason="timeout") == 1
    assert world.metric("queue_wait_seconds_sum", expert="general", outcome="timeout") > 0.2
    served = asyncio.create_task(world.chat())
    while world.metric("requests_waiting", expert="general") != 1:
        await world.client.get("/health")
    general.finish.set()
    assert [(await task).status_code for task in (first, served)] == [200, 200]
    assert world.metric("queue_wait_seconds_count", expert="general", outcome="served") == 1
    assert world.metric("errors_total", error="overloaded", expert="general") == 2


def test_what_is_long_gone_is_forgotten():
    registry = CollectorRegistry()
    metrics = Metrics(registry)

    def seen():
        return {
            sample.labels["model"]
            for family in registry.collect()
            for sample in family.samples
            if "model" in sample.labels
        }

    for version in range(4):
        model = f"registry:a/{version}"
        metrics.follow([("a", model)])
        metrics.observe(Exchange("r", 0.0, expert="a", model=model, status=200, error="timeout"), 1.0)
    assert seen() == {"registry:a/2", "registry:a/3"}
    metrics.observe(Exchange("r", 0.0, status=400), 1.0)
    metrics.follow([("b", "registry:b/1")])
    metrics.follow([("b", "registry:b/1")])
    assert seen() == {""}


@pytest.fixture
async def logged(world, serve_app):
    """A second gateway before the same experts, and the lines of its log."""
    lines = asyncio.Queue()
    running = await serve_app(create_app(world.file, log=lambda message, fields: lines.put_nowait(fields)))
    yield running.url, lines
    await running.stop()


async def test_the_log_says_all_but_the_content(world, logged):
    url, lines = logged
    body = {"messages": [{"role": "user", "content": "my secret order"}], "stream": True, "user": "Ada"}
    headers = {"x-request-id": "mine", "authorization": "Bearer key-of-mine"}
    await world.client.post(f"{url}/v1/chat/completions", json=body, headers=headers)
    await world.client.post(f"{url}/v1/chat/completions", content=b"{")
    told, refused = await lines.get(), await lines.get()
    text = json.dumps([told, refused])
    times = {name: told.pop(name) for name in ("duration_ms", "first_byte_ms", "first_token_ms")}
    assert 0 < times["first_byte_ms"] <= times["duration_ms"]
    assert 0 < times["first_token_ms"] <= times["duration_ms"]
    assert told.pop("bytes") > 0
    assert told == {
        "request_id": "mine", "method": "POST", "path": "/v1/chat/completions", "expert": "support",
        "model": "registry:support/1", "lock": "lock-support", "status": 200, "route": "keyword:order",
        "replica": world.servers["support"].url, "attempts": 1, "prompt_tokens": 0, "completion_tokens": 13,
    }  # fmt: skip
    assert (refused["status"], refused["error"]) == (400, "invalid_json")
    for secret in ("secret", "Ada", "key-of-mine", "I am support"):
        assert secret not in text
