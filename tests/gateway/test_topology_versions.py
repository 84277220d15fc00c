"""Router and experts are one version: who is routed by one is answered by its servers, however often files change."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import httpx

from tests.gateway.conftest import FakeVllm, MakeWorld, serve

if TYPE_CHECKING:
    from collections.abc import Mapping

RELOADS, CLIENTS = 60, 12
BODY = {"messages": [{"role": "user", "content": "where is my order?"}]}
NAMES = ("general", "support", "mapper")

SEEN = {("support", "I am support", "lock-support"), ("mapper", "I am the other mapper", "lock-other-mapper")}
"""Expert that the router chose, what its server said, and the lock of its model: nothing else may ever be seen."""


def two_versions(file: dict[str, Any], others: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return a gateway file, and one in which orders go to another expert and the experts to other servers."""
    versions = [file, deepcopy(file)]
    experts, upstreams = versions[1]["topology"]["experts"], versions[1]["upstreams"]
    experts["support"]["keywords"], experts["mapper"]["keywords"] = experts["mapper"]["keywords"], ["order"]
    for name, url in others.items():
        upstreams[name][0] |= {"url": url, "lock": f"lock-other-{name}"}
    return versions


def triple(answer: httpx.Response) -> tuple[str, str, str]:
    assert answer.status_code == 200, answer.text
    said = answer.json()["choices"][0]["message"]["content"]
    return answer.headers["x-largeforge-expert"], said, answer.headers["x-largeforge-lock"]


async def test_nobody_is_routed_by_one_version_and_answered_by_another(make_world: MakeWorld) -> None:
    world = await make_world(NAMES)
    others = {name: await serve(FakeVllm(f"I am the other {name}").app) for name in ("support", "mapper")}
    file = (await world.client.get("/admin/config")).json()
    versions = two_versions(file, {name: server.url for name, server in others.items()})
    seen: Counter[tuple[str, str, str]] = Counter()
    over = asyncio.Event()

    async def ask() -> None:
        while not over.is_set():
            seen[triple(await world.client.post("/v1/chat/completions", json=BODY))] += 1

    async def change() -> None:
        for number in range(RELOADS):
            answer = await world.client.put("/admin/config", json=versions[(number + 1) % 2])
            assert answer.status_code == 200, answer.text
            await asyncio.sleep(0.02)
        over.set()

    await asyncio.gather(change(), *(ask() for _ in range(CLIENTS)))
    for server in others.values():
        await server.stop()
    assert set(seen) == SEEN, seen
    assert all(count > RELOADS for count in seen.values()), seen


def test_nor_with_several_workers_that_change_one_after_the_other(start, start_fake) -> None:
    fakes = {name: start_fake(name).url for name in NAMES}
    crew = start(fakes, workers=2)
    with httpx.Client(base_url=crew.url, trust_env=False, headers=crew.operates) as client:
        file = client.get("/admin/config").json()
    versions = two_versions(file, {name: start_fake(f"the other {name}").url for name in ("support", "mapper")})
    seen: Counter[tuple[str, str, str]] = Counter()
    over = threading.Event()

    def connect() -> httpx.Client:
        return httpx.Client(base_url=crew.url, trust_env=False, headers=crew.operates, timeout=30)

    def ask() -> list[tuple[str, str, str]]:
        found = []
        while not over.is_set():
            with connect() as client:  # each connection goes to the one worker or the other
                found += [triple(client.post("/v1/chat/completions", json=BODY)) for _ in range(3)]
        return found

    with ThreadPoolExecutor() as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        try:
            for number in range(RELOADS // 2):
                with connect() as client:
                    answer = client.put("/admin/config", json=versions[(number + 1) % 2])
                    assert answer.status_code == 200, answer.text
                time.sleep(0.05)
        finally:
            over.set()
        for one in asking:
            seen.update(one.result())
    assert set(seen) == SEEN, seen
    assert all(count > RELOADS for count in seen.values()), seen
    deadline, digests = time.monotonic() + 20, []
    while len(set(digests[-20:])) != 1 or len(digests) < 20:
        assert time.monotonic() < deadline, digests
        with connect() as client:
            digests.append(client.get("/admin/state").json()["config"])
    with connect() as client:
        assert client.get("/admin/config").json() == versions[0], "the last that was put is served by all"
