"""Several servers of one expert: who is asked, who is asked next, who waits, and what a new topology changes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from largeforge.errors import RecipeError
from largeforge.gateway.app import create_app
from largeforge.gateway.balance import LeastOutstanding, Prefix
from largeforge.gateway.live import Live
from tests.gateway.conftest import FakeVllm, Running, gateway_file, serve


class Fleet:
    """A gateway before some replicas of `general`."""

    def __init__(self, fakes: list[FakeVllm], servers: list[Running], gateway: Running, registry: CollectorRegistry):
        self.fakes, self.servers, self.gateway, self.registry = fakes, servers, gateway, registry
        limits = httpx.Limits(max_connections=None)
        self.client = httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=30, limits=limits)

    async def chat(self, text: str = "hi", **fields: Any) -> httpx.Response:
        body = {"messages": [{"role": "user", "content": text}], **fields}
        return await self.client.post("/v1/chat/completions", json=body)

    @property
    def asked(self) -> list[int]:
        return [len(fake.requests) for fake in self.fakes]

    def retries(self, why: str = "retry") -> float:
        labels = {"expert": "general", "why": why}
        return self.registry.get_sample_value("largeforge_gateway_retries_total", labels) or 0.0


MakeFleet = Callable[..., Awaitable[Fleet]]


@pytest.fixture
async def make_fleet() -> AsyncIterator[MakeFleet]:
    async with contextlib.AsyncExitStack() as stack:

        async def make(count: int = 2, *, limit: int = 0, **gateway: Any) -> Fleet:
            fakes = [FakeVllm(f"replica {number}") for number in range(count)]
            servers = [await serve(fake.app) for fake in fakes]
            registry = CollectorRegistry()
            gateway.setdefault("health_interval_s", 60)  # requests find out by themselves
            file = gateway_file({"general": [server.url for server in servers]}, limit=limit, **gateway)
            fleet = Fleet(fakes, servers, await serve(create_app(file, registry=registry)), registry)
            stack.push_async_callback(fleet.gateway.stop)
            for server in servers:
                stack.push_async_callback(server.stop)
            stack.push_async_callback(fleet.client.aclose)
            return fleet

        yield make


async def test_idle_replicas_are_asked_in_turns_and_busy_ones_less(make_fleet):
    fleet = await make_fleet(3)
    for _ in range(9):
        await fleet.chat()
    assert fleet.asked == [3, 3, 3]
    fleet.fakes[0].finish = asyncio.Event()
    held = [asyncio.create_task(fleet.chat()) for _ in range(3)]  # one of them on each
    while sum(fleet.asked) < 12:
        await fleet.client.get("/health")
    for _ in range(6):
        await fleet.chat()
    assert fleet.asked == [4, 7, 7]
    fleet.fakes[0].finish.set()
    await asyncio.gather(*held)


async def test_a_replica_that_dies_under_load_loses_no_request(make_fleet):
    fleet = await make_fleet(2)

    async def ask(number: int) -> int:
        if number == 30:
            await fleet.servers[0].stop()
        return (await fleet.chat(str(number))).status_code

    answered = []
    for start in range(0, 100, 10):
        answered += await asyncio.gather(*(ask(number) for number in range(start, start + 10)))
    assert Counter(answered) == {200: 100}
    report = (await fleet.client.get("/ready")).json()
    assert report["ready"] is True
    assert [one["state"] for one in report["experts"]["general"]["replicas"]] == ["down", "up"]


@pytest.mark.parametrize("status", [500, 503])
async def test_errors_are_tried_elsewhere_until_the_breaker_spares_the_attempt(make_fleet, status):
    fleet = await make_fleet(2, breaker={"failures": 3, "open_s": 600})
    fleet.fakes[0].status = status
    for _ in range(20):
        answer = await fleet.chat()
        assert (answer.status_code, answer.headers["x-largeforge-expert"]) == (200, "general")
        assert "x-largeforge-fallback" not in answer.headers
    assert fleet.asked == [3, 20]
    assert fleet.retries() == 3
    replicas = (await fleet.client.get("/ready")).json()["experts"]["general"]["replicas"]
    assert [one["breaker"] for one in replicas] == ["open", "closed"]


async def test_retries_end_with_the_attempts_and_with_the_budget(make_fleet):
    fleet = await make_fleet(4, retries={"most": 2, "budget": 0.01}, breaker={"failures": 1000})
    for fake in fleet.fakes:
        fake.status = 500
    answer = await fleet.chat()
    assert answer.status_code == 502
    assert sum(fleet.asked) == 3, "two further attempts"
    for _ in range(50):
        await fleet.chat()
    assert fleet.retries() == 10, "the reserve; one percent of 51 requests is no retry yet"


async def test_nothing_is_retried_once_a_byte_has_come(make_fleet):
    from tests.gateway.conftest import DIE, event

    fleet = await make_fleet(2)
    for fake in fleet.fakes:
        fake.script = asyncio.Queue()
        for piece in (event("begin"), DIE):
            fake.script.put_nowait(piece)
    answer = await fleet.chat(stream=True)
    assert answer.status_code == 200
    assert "expert_died" in answer.text
    assert sum(fleet.asked) == 1


async def test_the_answer_of_a_hedge_counts_and_the_slow_one_is_cancelled(make_fleet):
    fleet = await make_fleet(2, retries={"hedge_after_ms": 20})
    fleet.fakes[0].finish = asyncio.Event()
    answer = await fleet.chat()
    assert answer.json()["choices"][0]["message"]["content"] == "replica 1"
    await asyncio.wait_for(fleet.fakes[0].cancelled.wait(), 10)
    assert fleet.retries("hedge") == 1
    replicas = (await fleet.client.get("/ready")).json()["experts"]["general"]["replicas"]
    assert [one["outstanding"] for one in replicas] == [0, 0]
    assert [one["breaker"] for one in replicas] == ["closed", "closed"]


async def test_more_than_a_server_takes_wait_their_turn_and_more_than_may_wait_are_refused(make_fleet):
    fleet = await make_fleet(1, limit=2, queue={"length": 3, "wait_s": 60})
    fleet.fakes[0].finish = asyncio.Event()
    tasks = [asyncio.create_task(fleet.chat(str(number))) for number in range(5)]

    async def waiting(count: int) -> None:
        while fleet.registry.get_sample_value("largeforge_gateway_requests_waiting", {"expert": "general"}) != count:
            await fleet.client.get("/health")

    await waiting(3)
    while fleet.asked != [2]:  # they are on their way
        await fleet.client.get("/health")
    refused = await fleet.chat("too many")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert refused.json()["error"]["code"] == "overloaded"
    tasks[4].cancel()  # a client that leaves gives its place to others
    with contextlib.suppress(asyncio.CancelledError):
        await tasks[4]
    await waiting(2)
    fleet.fakes[0].finish.set()
    answers = await asyncio.gather(*tasks[:4])
    assert [answer.status_code for answer in answers] == [200] * 4
    assert fleet.asked == [4]


async def test_a_wait_that_is_too_long_ends(make_fleet):
    fleet = await make_fleet(1, limit=1, queue={"wait_s": 0.05})
    fleet.fakes[0].finish = asyncio.Event()
    first = asyncio.create_task(fleet.chat())
    await asyncio.to_thread(fleet.fakes[0].arrived.wait)
    late = await fleet.chat()
    assert (late.status_code, late.json()["error"]["code"]) == (503, "overloaded")
    assert int(late.headers["retry-after"]) >= 1
    fleet.fakes[0].finish.set()
    assert (await first).status_code == 200


def replicas(count: int) -> list[Any]:
    return [SimpleNamespace(url=f"http://127.0.0.1:{9000 + number}", backend=SimpleNamespace(load=0))
            for number in range(count)]  # fmt: skip


def request(*contents: str) -> Any:
    roles = ("user", "assistant") * len(contents)
    return SimpleNamespace(
        payload={"messages": [{"role": role, "content": text} for role, text in zip(roles, contents, strict=False)]}
    )


def test_a_conversation_stays_with_its_replica_and_conversations_spread():
    choose, servers = Prefix(), replicas(4)
    first = {number: choose(servers, request(f"question {number}")) for number in range(2000)}
    for number, chosen in first.items():
        assert choose(servers, request(f"question {number}", "answer", "and then?")) is chosen
    shares = Counter(chosen.url for chosen in first.values())
    assert len(shares) == 4
    assert max(shares.values()) < 2000 / 4 * 1.6

    fewer = servers[:3]  # one replica is gone: the conversations of the others stay where they are
    moved = [number for number, chosen in first.items() if chosen is not servers[3]
             and choose(fewer, request(f"question {number}")) is not chosen]  # fmt: skip
    assert not moved


def test_a_replica_with_more_than_its_share_passes_on():
    choose, servers = Prefix(), replicas(2)
    asked = request("the same question as everybody")
    for _ in range(100):
        choose(servers, asked).backend.load += 1
    loads = sorted(server.backend.load for server in servers)
    assert sum(loads) == 100
    assert loads[0] >= 35


def test_ties_are_taken_in_turns():
    choose, servers = LeastOutstanding(), replicas(3)
    assert [choose(servers, request("x")) for _ in range(6)] == servers + servers


async def test_a_new_topology_takes_over_while_requests_go_on(make_fleet):
    fleet = await make_fleet(2)
    urls = [server.url for server in fleet.servers]
    from largeforge.gateway.metrics import Metrics

    registry = CollectorRegistry()
    options = {"clock": asyncio.get_running_loop().time, "wall_clock": lambda: 0.0}
    old = gateway_file({"general": urls[:1]}, health_interval_s=60)
    async with Live(old, metrics=Metrics(registry), registry=registry, **options) as live:
        before = live.now
        kept = before.targets["general"].replicas[0].backend
        kept.outstanding += 1  # a request that goes on
        both = await live.replace(gateway_file({"general": urls, "support": urls[1:]}, health_interval_s=60))
        assert live.now is both
        assert [one.backend.state for one in both.targets["general"].replicas] == ["up", "up"]
        assert both.targets["general"].replicas[0].backend is kept, "with its connections and what is known of it"
        assert both.targets["support"].replicas[0].backend is both.targets["general"].replicas[1].backend

        await live.replace(gateway_file({"general": urls[1:]}, health_interval_s=60))
        for _ in range(5):
            await asyncio.sleep(0)
        assert await (await kept.pool.request(b"GET", b"/health")).read(10) == b"", "still open for what goes on"
        kept.outstanding -= 1

        with pytest.raises(RecipeError, match=r"gateway\.port"):
            await live.replace(gateway_file({"general": urls}, port=1))
        with pytest.raises(RecipeError, match=r"gateway\.tracing.*only taken up by a new process"):
            await live.replace(gateway_file({"general": urls}, tracing={"endpoint": "http://127.0.0.1:1"}))
        assert list(live.now.targets) == ["general"]


async def test_who_answers_in_the_place_of_an_expert_is_its_own_choice(make_world):
    world = await make_world()
    data = json.loads(world.file.model_dump_json())
    data["topology"]["experts"]["support"]["fallback"] = ["mapper", "general"]
    data["topology"]["experts"]["mapper"]["fallback"] = []
    changed = type(world.file).model_validate(data)
    gateway = await serve(create_app(changed))
    try:
        async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client:
            await world.kill("support")
            body = {"model": "support", "messages": [{"role": "user", "content": "hi"}]}
            answer = await client.post("/v1/chat/completions", json=body)
            assert answer.headers["x-largeforge-expert"] == "mapper"
            assert answer.headers["x-largeforge-requested"] == "support"
            await world.kill("mapper")
            assert (await client.post("/v1/chat/completions", json=body)).headers["x-largeforge-expert"] == "general"
            alone = await client.post("/v1/chat/completions", json={**body, "model": "mapper"})
            assert (alone.status_code, alone.json()["error"]["code"]) == (503, "expert_down")
    finally:
        await gateway.stop()
