"""Router and experts are one version: who is routed by one is answered by its servers, however often files change."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from tests.gateway.conftest import FakeVllm, MakeWorld, serve

if TYPE_CHECKING:
    import httpx

RELOADS, CLIENTS = 60, 12


async def test_nobody_is_routed_by_one_version_and_answered_by_another(make_world: MakeWorld) -> None:
    world = await make_world(("general", "support", "mapper"))
    others = {name: await serve(FakeVllm(f"I am the other {name}").app) for name in ("support", "mapper")}
    versions = [(await world.client.get("/admin/config")).json() for _ in range(2)]
    experts, upstreams = versions[1]["topology"]["experts"], versions[1]["upstreams"]
    experts["support"]["keywords"], experts["mapper"]["keywords"] = experts["mapper"]["keywords"], ["order"]
    for name, server in others.items():
        upstreams[name][0] |= {"url": server.url, "lock": f"lock-other-{name}"}
    seen: Counter[tuple[str, str, str]] = Counter()
    over = asyncio.Event()

    def note(answer: httpx.Response) -> None:
        assert answer.status_code == 200, answer.text
        said = answer.json()["choices"][0]["message"]["content"]
        seen[answer.headers["x-largeforge-expert"], said, answer.headers["x-largeforge-lock"]] += 1

    async def ask() -> None:
        while not over.is_set():
            note(await world.chat("where is my order?"))

    async def change() -> None:
        for number in range(RELOADS):
            answer = await world.client.put("/admin/config", json=versions[(number + 1) % 2])
            assert answer.status_code == 200, answer.text
            await asyncio.sleep(0.02)
        over.set()

    await asyncio.gather(change(), *(ask() for _ in range(CLIENTS)))
    for server in others.values():
        await server.stop()
    assert set(seen) == {
        ("support", "I am support", "lock-support"),
        ("mapper", "I am the other mapper", "lock-other-mapper"),
    }, seen
    assert all(count > RELOADS for count in seen.values()), seen
