"""Traces: the gateway's spans join the client's and the server's, say nothing of content, and hold up no request."""

from __future__ import annotations

import asyncio
import sys

import pytest
from pydantic import ValidationError

from largeforge.errors import ServingError
from largeforge.gateway.tracing import traces
from largeforge.recipe.schema import Gateway
from tests.fakes.collector import Collector, plain
from tests.gateway.test_shadow import counted, shadowed

CLIENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SECRET = "kumquat"


def told(headers):
    """What a server was told: trace, parent, and whether it is recorded."""
    _, trace, parent, flags = headers["traceparent"].split("-")
    return trace, parent, bool(int(flags, 16) & 1)


def ids(span):
    return span.trace_id.hex(), span.span_id.hex(), True


@pytest.fixture
def collector(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=of-the-collector")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    collector = Collector()
    yield collector
    collector.stop()


@pytest.fixture
async def traced(collector, make_world):
    return await make_world(tracing={"endpoint": collector.url})


async def spans(collector, world, *names):
    """Return these once they have been sent; the gateway runs in this thread, so that waiting must not block."""
    while not set(names) <= collector.spans.keys():
        await world.client.get("/health")
    return [collector.spans[name] for name in names]


async def test_spans_join_those_of_the_client_and_of_the_server(collector, traced):
    headers = {"traceparent": CLIENT, "tracestate": "vendor=1", "x-request-id": "mine"}
    body = {"messages": [{"role": "user", "content": f"order {SECRET}"}], "max_tokens": 7}
    await traced.client.post("/v1/chat/completions", json=body, headers=headers)
    request, asked = await spans(collector, traced, "POST /v1/chat/completions", "chat support")
    assert f"00-{request.trace_id.hex()}-{request.parent_span_id.hex()}-01" == CLIENT
    assert (asked.trace_id, asked.parent_span_id) == (request.trace_id, request.span_id)
    sent = traced.experts["support"].headers[0]
    assert (told(sent), sent["tracestate"]) == (ids(asked), "vendor=1")
    assert plain(request.attributes) == {
        "http.request.method": "POST", "http.route": "/v1/chat/completions", "url.path": "/v1/chat/completions",
        "http.response.status_code": 200, "largeforge.request_id": "mine", "largeforge.expert": "support",
        "largeforge.model": "registry:support/1", "largeforge.route": "keyword:order", "largeforge.fallback": "",
        "largeforge.attempts": 1,
    }  # fmt: skip
    port = int(traced.servers["support"].url.rpartition(":")[2])
    assert plain(asked.attributes) == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "vllm", "gen_ai.request.model": "support",
        "gen_ai.request.max_tokens": 7, "gen_ai.request.stream": False, "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 2, "http.response.status_code": 200, "largeforge.expert": "support",
        "largeforge.model": "registry:support/1", "server.address": "127.0.0.1", "server.port": port,
    }  # fmt: skip
    assert collector.resource["service.name"] == "largeforge-gateway"
    path, given = collector.headers[0]
    assert (path, given["api-key"]) == ("/v1/traces", "of-the-collector")
    assert SECRET.encode() not in collector.raw
    assert b"I am support" not in collector.raw


async def test_a_stream_that_fails_over_shows_both_servers(collector, traced, events):
    traced.experts["support"].script = asyncio.Queue()
    traced.experts["support"].script.put_nowait(events.die)
    body = {"messages": [{"role": "user", "content": "order"}], "stream": True}
    answer = await traced.client.post("/v1/chat/completions", json=body)
    assert answer.headers["x-largeforge-fallback"] == "expert-down"
    names = ("POST /v1/chat/completions", "chat support", "chat general")
    request, failed, asked = await spans(collector, traced, *names)
    assert {failed.parent_span_id, asked.parent_span_id} == {request.span_id}
    assert not request.parent_span_id
    assert plain(failed.attributes)["error.type"] == "reset"
    assert failed.status.code == 2
    assert asked.status.code == request.status.code == 0
    assert plain(asked.attributes)["gen_ai.usage.output_tokens"] > 0
    assert plain(request.attributes)["gen_ai.response.time_to_first_chunk"] > 0
    assert told(traced.experts["general"].headers[0]) == ids(asked)


async def test_the_span_of_a_shadow_says_so(collector, traced):
    client, registry, gateway = await shadowed(traced)
    body = {"model": "general", "messages": [{"role": "user", "content": "hi"}]}
    await client.post("/v1/chat/completions", json=body)
    await counted(client, registry, "answered")
    request, asked, shadow = await spans(collector, traced, "POST /v1/chat/completions", "chat general", "chat mapper")
    assert shadow.parent_span_id == asked.parent_span_id == request.span_id
    assert plain(shadow.attributes)["largeforge.shadow"] is True
    assert "largeforge.shadow" not in plain(asked.attributes)
    await client.aclose()
    await gateway.stop()


async def test_what_the_client_does_not_record_is_not_recorded(collector, traced):
    unsampled = CLIENT[:-2] + "00"
    await traced.client.post(
        "/v1/chat/completions",
        json={"messages": [{"role": "user", "content": "a"}]},
        headers={"traceparent": unsampled},
    )
    trace, _, is_recorded = told(traced.experts["general"].headers[0])
    assert (trace, is_recorded) == (CLIENT.split("-")[1], False)
    await traced.chat("order")
    await spans(collector, traced, "chat support")
    assert "chat general" not in collector.spans


async def test_none_are_recorded_at_a_ratio_of_zero(collector, make_world):
    world = await make_world(tracing={"endpoint": collector.url, "sample_ratio": 0})
    await world.chat("order")
    assert not told(world.experts["support"].headers[0])[2]
    body = {"messages": [{"role": "user", "content": "a"}]}
    await world.client.post("/v1/chat/completions", json=body, headers={"traceparent": CLIENT})
    await spans(collector, world, "chat general")
    assert "chat support" not in collector.spans


async def test_a_collector_that_is_gone_costs_no_request(make_world, unused_tcp_port, monkeypatch):
    monkeypatch.setattr("largeforge.gateway.tracing.FLUSH_S", 0.1)
    world = await make_world(tracing={"endpoint": f"http://127.0.0.1:{unused_tcp_port}"})
    for _ in range(3):
        assert (await world.chat("order")).status_code == 200


async def test_without_tracing_the_context_of_the_client_goes_on_as_it_came(world):
    headers = {"traceparent": CLIENT, "tracestate": "vendor=1,other=2", "baggage": "who=me"}
    await world.client.post(
        "/v1/chat/completions", json={"prompt": "x", "messages": [{"role": "user", "content": "a"}]}, headers=headers
    )
    sent = world.experts["general"].headers[0]
    assert (sent["traceparent"], sent["tracestate"]) == (CLIENT, "vendor=1,other=2")
    assert "baggage" not in sent


def test_what_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    assert traces(Gateway()) is None
    with pytest.raises(ServingError, match=r"endpoint = http://c:4318: .*'largeforge\[tracing\]'"):
        traces(Gateway(tracing={"endpoint": "http://c:4318"}))


@pytest.mark.parametrize("endpoint", ["http://user:key@c:4318", "http://c:4318/?key=x", "c:4318", "http://c/ d"])
def test_an_address_has_no_room_for_a_key(endpoint):
    with pytest.raises(ValidationError):
        Gateway(tracing={"endpoint": endpoint})
