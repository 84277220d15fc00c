"""`/v1/route`, and how answers and metrics tell why an expert was chosen, through a whole gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from largeforge.gateway.app import create_app
from largeforge.gateway.config import GatewayFile

CHAIN = {
    "name": "chain",
    "routers": {
        "first": {"name": "rules", "rules": [
            {"name": "beta", "expert": "mapper", "when": {"flag": "beta"}},
            {"name": "old", "expert": "support", "when": {"model": "gpt-.*"}},
        ]},
        "words": {"name": "keyword"},
        "near": {"name": "embedding", "expert": "vectors", "min_similarity": -1},
    },
    "thresholds": {"near": 0.99},
}  # fmt: skip
FLAGS = {"beta": {"users": {"u1": True}}}


class Asked:
    """A gateway of its own before a world's experts."""

    def __init__(self, client: httpx.AsyncClient, registry: CollectorRegistry):
        self.client, self.registry = client, registry

    async def route(self, text: str = "hi", *, headers: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
        body = {"messages": [{"role": "user", "content": text}], **fields}
        answer = await self.client.post("/v1/route", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"largeforge_gateway_{name}", labels) or 0.0


@pytest.fixture
async def gateway(make_world, serve_app) -> AsyncIterator[Callable[..., Awaitable[Asked]]]:
    async with AsyncExitStack() as stack:

        async def make(router: dict[str, Any], **topology: Any) -> Asked:
            world = await make_world(("general", "support", "mapper", "vectors"))
            experts = world.file.topology.model_dump()["experts"]
            for name, fields in topology.pop("experts", {}).items():
                experts[name] |= fields
            given = world.file.model_dump(mode="json") | {
                "router": router, "topology": {"experts": experts, "fallback": "general", **topology},
            }  # fmt: skip
            registry = CollectorRegistry()
            running = await serve_app(create_app(GatewayFile.model_validate(given), registry=registry))
            stack.push_async_callback(running.stop)
            client = httpx.AsyncClient(base_url=running.url, trust_env=False, timeout=30)
            await stack.enter_async_context(client)
            return Asked(client, registry)

        yield make


async def test_a_route_is_explained_and_nothing_is_generated(gateway):
    asked = await gateway(CHAIN, flags=FLAGS)
    told = await asked.route("my order", user="u1")
    assert (told["object"], told["expert"], told["reason"]) == ("route", "mapper", "rules:beta")
    assert told["flags"] == {"beta": True}
    assert [one["router"] for one in told["routers"]] == ["first", "words", "near"]
    assert told["routers"][1] | {"scores": {}} == {
        "router": "words", "expert": "support", "reason": "keyword:order", "score": 1.0, "threshold": 0.0,
        "decides": True, "scores": {},
    }  # fmt: skip
    assert set(told["routers"][2]["scores"]) == {"general", "support"}  # those with a description
    assert (await asked.route("my order"))["reason"] == "keyword:order"
    assert asked.metric("route_decisions_total", by="rules", expert="mapper") == 0


async def test_completions_and_names_are_explained_too(gateway):
    asked = await gateway(CHAIN, flags=FLAGS)
    answer = await asked.client.post("/v1/route", json={"prompt": "a refund"})
    assert answer.json()["expert"] == "support"
    assert (await asked.route(model="mapper"))["reason"] == "model"
    assert (await asked.route(model="gpt-9"))["reason"] == "rules:old"
    unknown = await asked.route(model="llama")
    assert (unknown["expert"], unknown["fallback"], unknown["requested"]) == ("general", "unknown-model", "llama")


@pytest.mark.parametrize(
    ("content", "status", "param"),
    [
        (b"{", 400, None),
        (b"[]", 400, None),
        (b"{}", 400, "messages"),
        (b'{"messages": []}', 400, "messages"),
        (b'{"prompt": 3}', 400, "prompt"),
        (b'{"prompt": "x", "model": 3}', 400, "model"),
    ],
)
async def test_what_is_no_request_is_refused_as_elsewhere(world, content, status, param):
    answer = await world.client.post("/v1/route", content=content)
    assert answer.status_code == status
    assert answer.json()["error"]["param"] == param


async def test_a_body_that_is_too_large_is_refused(make_world):
    world = await make_world(max_body_mib=0.001)
    assert (await world.client.post("/v1/route", content=b" " * 2000)).status_code == 413


async def test_answers_name_variants_and_metrics_count_who_decided(gateway):
    asked = await gateway({"name": "keyword"}, experts={"support": {"variants": {"mapper": 1.0}}})
    body = {"messages": [{"role": "user", "content": "my order"}]}
    answer = await asked.client.post("/v1/chat/completions", json=body)
    assert answer.headers["x-largeforge-route"] == "keyword:order;variant:mapper"
    assert answer.headers["x-largeforge-expert"] == "mapper"
    await asked.client.post("/v1/chat/completions", json={**body, "model": "general"})
    assert asked.metric("route_decisions_total", by="keyword", expert="mapper") == 1
    assert asked.metric("route_decisions_total", by="model", expert="general") == 1


async def test_an_embedding_server_that_is_gone_is_said_and_counted(gateway, make_world):
    asked = await gateway({"name": "embedding", "url": "http://127.0.0.1:9", "model": "x", "start_timeout_s": 5})
    told = await asked.route("my order")
    assert (told["expert"], told["reason"]) == ("general", "default;failed:embedding:starting")
    assert asked.metric("router_outcomes_total", router="embedding", outcome="failed") >= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"router": {"name": "rules", "rules": [{"expert": "nobody"}]}}, r"router\.rules\.0\.expert"),
        ({"router": {"name": "embedding"}}, r"router\.expert"),
    ],
)
def test_a_file_whose_router_does_not_fit_its_experts_is_refused(make_file, change, message):
    given = make_file({"general": "http://x", "support": "http://y"}).model_dump(mode="json")
    with pytest.raises(ValidationError, match=message):
        GatewayFile.model_validate(given | change)
