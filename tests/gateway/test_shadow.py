"""Shadow requests: another expert is asked the same, and nobody notices."""

from __future__ import annotations

import asyncio
import json

import httpx
from prometheus_client import CollectorRegistry

from largeforge.gateway.app import create_app
from tests.gateway.conftest import World, serve


async def shadowed(world: World, **shadow: object) -> tuple[httpx.AsyncClient, CollectorRegistry, object]:
    """Start a gateway whose expert `general` has `mapper` for a shadow."""
    data = json.loads(world.file.model_dump_json())
    data["topology"]["experts"]["general"]["shadow"] = {"expert": "mapper", "share": 1.0, **shadow}
    registry = CollectorRegistry()
    gateway = await serve(create_app(type(world.file).model_validate(data), registry=registry))
    return httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=30), registry, gateway


def outcome(registry: CollectorRegistry, word: str) -> float:
    labels = {"expert": "mapper", "outcome": word}
    return registry.get_sample_value("largeforge_gateway_shadows_total", labels) or 0.0


async def counted(client: httpx.AsyncClient, registry: CollectorRegistry, word: str, times: int = 1) -> None:
    while outcome(registry, word) < times:
        await client.get("/health")


async def test_the_shadow_is_asked_the_same_and_the_client_gets_the_answer_of_the_other(world):
    client, registry, gateway = await shadowed(world)
    body = {"model": "general", "messages": [{"role": "user", "content": "hi"}]}
    for stream in (False, True):
        answer = await client.post("/v1/chat/completions", json={**body, "stream": stream})
        assert answer.headers["x-largeforge-expert"] == "general"
        assert "mapper" not in answer.text
    await counted(client, registry, "answered", 2)
    seen = sorted(world.experts["mapper"].requests, key=lambda request: request["stream"])
    assert seen == [{**body, "model": "mapper", "stream": False}, {**body, "model": "mapper", "stream": True}]
    await client.aclose()
    await gateway.stop()


async def test_a_shadow_that_hangs_or_fails_delays_and_breaks_nothing(world):
    client, registry, gateway = await shadowed(world)
    world.experts["mapper"].finish = asyncio.Event()  # never
    body = {"model": "general", "messages": [{"role": "user", "content": "hi"}]}
    for _ in range(40):
        assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
    assert outcome(registry, "left-out") == 8, "no more than 32 at once"
    world.experts["mapper"].finish.set()
    await counted(client, registry, "answered", 32)
    world.experts["mapper"].status = 500
    assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
    await counted(client, registry, "failed")
    await client.aclose()
    await gateway.stop()
