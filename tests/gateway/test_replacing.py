"""A server is replaced and there is no other: its requests wait for the one that comes, and none fails."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.gateway.conftest import FakeVllm, MakeWorld, Running, World, serve

if TYPE_CHECKING:
    import httpx


class Replaced:
    """The server of one expert, whose place another takes."""

    def __init__(self, world: World, expert: str, fake: FakeVllm, running: Running):
        self.world, self.expert, self.fake, self.running = world, expert, fake, running

    def ask(self) -> asyncio.Task[httpx.Response]:
        return asyncio.create_task(self.world.chat(model=self.expert))

    async def drain(self, reason: str | None = "update") -> None:
        patch = {"drained": {self.world.servers[self.expert].url: reason}}
        assert (await self.world.client.patch("/admin/state", json=patch)).status_code == 200

    async def put(self, **topology: Any) -> None:
        """Serve from the other server from now on."""
        config = (await self.world.client.get("/admin/config")).json()
        config["upstreams"][self.expert][0] |= {"url": self.running.url, "lock": "lock-new"}
        config["topology"] |= topology
        answer = await self.world.client.put("/admin/config", json=config)
        assert answer.status_code == 200, answer.text

    async def waiting(self, count: int) -> None:
        labels = {"expert": self.expert}
        while self.world.registry.get_sample_value("largeforge_gateway_requests_waiting", labels) != count:
            await self.world.client.get("/health")


@pytest.fixture
async def make_replaced(make_world: MakeWorld):
    stops = []

    async def make(names: tuple[str, ...] = ("general",), expert: str = "general", **gateway: Any) -> Replaced:
        world = await make_world(names, health_interval_s=60.0, **gateway)
        fake = FakeVllm("I am new")
        running = await serve(fake.app)
        stops.append(running.stop)
        return Replaced(world, expert, fake, running)

    yield make
    for stop in stops:
        await stop()


def said(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"]


async def test_requests_wait_for_the_server_that_comes_in_its_place(make_replaced):
    one = await make_replaced()
    await one.drain()
    asked = [one.ask(), one.ask()]
    await one.waiting(2)
    await one.world.servers["general"].stop()
    await one.put()
    answers = await asyncio.gather(*asked)
    assert [said(answer) for answer in answers] == ["I am new"] * 2
    assert {answer.headers["x-largeforge-lock"] for answer in answers} == {"lock-new"}
    assert not one.world.experts["general"].requests


async def test_requests_wait_for_the_same_server_to_come_back_though_it_was_seen_down(make_replaced):
    one = await make_replaced()
    old = one.world.servers["general"]
    assert said(await one.ask()) == "I am general"
    live = one.world.gateway.server.config.app.completions.live
    await one.drain()
    await old.stop()
    backend = live.now.targets["general"].replicas[0].backend
    live.health.mark_down(backend, "refuses connections", "refused")
    asked = one.ask()
    await one.waiting(1)
    one.world.servers["general"] = await serve(one.world.experts["general"].app, int(old.url.rpartition(":")[2]))
    await one.drain(None)
    assert said(await asked) == "I am general"


async def test_who_answers_in_its_place_is_asked_first(make_replaced):
    one = await make_replaced(("general", "support"), "support")
    await one.drain()
    answer = await one.ask()
    assert (said(answer), answer.headers["x-largeforge-fallback"]) == ("I am general", "expert-down")
    await one.world.servers["general"].stop()
    asked = one.ask()
    await one.waiting(1)
    await one.put()
    answer = await asked
    assert said(answer) == "I am new"
    assert "x-largeforge-fallback" not in answer.headers


async def test_a_wait_ends_with_the_queue_s_own_limits(make_replaced):
    one = await make_replaced(queue={"length": 1, "wait_s": 0.2})
    await one.drain()
    first = one.ask()
    await one.waiting(1)
    full = await one.ask()
    assert (full.status_code, full.headers["retry-after"]) == (429, "1")
    late = await first
    assert (late.status_code, late.json()["error"]["code"]) == (503, "overloaded")


async def test_nobody_waits_for_a_server_that_is_only_dead(make_replaced):
    one = await make_replaced()
    await one.world.servers["general"].stop()
    answer = await one.ask()
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "expert_down")


async def test_what_waits_is_not_answered_by_servers_of_another_topology(make_replaced):
    one = await make_replaced()
    await one.drain()
    asked = one.ask()
    await one.waiting(1)
    await one.put(salt="another")
    answer = await asked
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "expert_down")
    assert "is not served any more" in answer.json()["error"]["message"]
    assert "retry-after" in answer.headers
    assert said(await one.ask()) == "I am new"
