"""The gateway before two real vLLM servers of one model: what they cache, what reaches them, and the death of one."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import urllib.request
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from largeforge.recipe.schema import Serving
from largeforge.serving.model_servers import ModelServers
from largeforge.serving.placement import ServedExpert
from tests.e2e.workspace import environment
from tests.gateway.conftest import gateway_file

LIMIT = 8
"""Requests that each server takes at once."""
LONG = 3500
"""Tokens of an answer that nobody waits for."""
TINY_MODEL = Path(__file__).parents[1] / "serving" / "tiny_model.py"


class Servers:
    """Two vLLM servers of one model of random weights."""

    def __init__(self, ports: list[int]):
        self.urls = [f"http://127.0.0.1:{port}" for port in ports]
        self._ports = ports

    async def sums(self, name: str) -> list[float]:
        """Return what each server's `/metrics` say of a counter or a gauge."""
        texts = await asyncio.gather(*(asyncio.to_thread(get, f"{url}/metrics") for url in self.urls))
        return [
            sum(
                sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
                if sample.name == name
            )
            for text in texts
        ]

    def kill(self, number: int) -> None:
        """Kill one of them, as the kernel does when memory is gone; its reaper ends what it leaves behind."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            is_reaper = any(word.endswith(b"reaper.py") for word in words)
            is_server = b"vllm.entrypoints.openai.api_server" in words and not is_reaper
            if is_server and str(self._ports[number]).encode() in words:
                os.kill(int(folder.name), signal.SIGKILL)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("gateway")
    subprocess.run([sys.executable, str(TINY_MODEL), str(folder)], check=True, env=environment(), timeout=900)
    config = folder / "base" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "max_position_embeddings": 4096}))
    expert = ServedExpert("general", str(folder / "base"), "path:base", replicas=2)
    serving = Serving(enforce_eager=True, max_num_seqs=LIMIT)
    with ModelServers([expert], serving=serving, device="cpu", logs=folder, report=print) as running:
        yield Servers(running.replicas["general"])


class Gateway:
    """A gateway process, and a client of it."""

    def __init__(self, url: str, client: httpx.AsyncClient):
        self.url, self._client = url, client

    async def answer(self, *turns: str, tokens: int = 8) -> str:
        """Return the text of an answer."""
        said = await self._client.post("/v1/chat/completions", json=body(turns, tokens))
        assert said.status_code == 200, said.text
        return str(said.json()["choices"][0]["message"]["content"])

    @asynccontextmanager
    async def stream(self, *turns: str, tokens: int) -> AsyncIterator[AsyncIterator[str]]:
        """Give the lines of a stream."""
        sent = {**body(turns, tokens), "stream": True}
        async with self._client.stream("POST", "/v1/chat/completions", json=sent) as said:
            assert said.status_code == 200, await said.aread()
            yield said.aiter_lines()

    async def counted(self, name: str) -> float:
        """Return the sum of one of the gateway's own metrics."""
        text = (await self._client.get("/metrics")).text
        families = text_string_to_metric_families(text)
        return sum(sample.value for family in families for sample in family.samples if sample.name == name)

    async def replicas(self) -> list[dict[str, Any]]:
        """Return what the gateway knows of each server."""
        found: list[dict[str, Any]] = (await self._client.get("/ready")).json()["experts"]["general"]["replicas"]
        return found


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return str(answer.read().decode())


def body(turns: tuple[str, ...], tokens: int) -> dict[str, Any]:
    roles = ("user", "assistant") * len(turns)
    messages = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]
    return {"messages": messages, "max_tokens": tokens, "ignore_eos": True, "temperature": 0}


@pytest.fixture
def gateway(servers: Servers, tmp_path: Path) -> Callable[..., Any]:
    """Make a gateway process with some settings."""

    @asynccontextmanager
    async def make(**settings: Any) -> AsyncIterator[Gateway]:
        path = tmp_path / f"{uuid.uuid4().hex}.json"
        file = gateway_file({"general": servers.urls}, limit=LIMIT, queue={"wait_s": 120}, **settings)
        path.write_text(file.model_dump_json())
        words = [sys.executable, "-m", "largeforge.gateway", "--config", str(path)]
        with path.with_suffix(".log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE, stderr=log)
        assert process.stdout
        try:
            url = json.loads(await process.stdout.readline())["url"]
            limits = httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=120, limits=limits) as client:
                yield Gateway(url, client)
        finally:
            process.terminate()
            await process.wait()

    return make


async def test_conversations_find_their_prefix_where_it_is_cached(servers: Servers, gateway: Any) -> None:
    pick = random.Random(5)
    shares = {}
    for balance in ("least_outstanding", "prefix"):
        before = sum(await servers.sums("vllm:prefix_cache_hits_total"))
        asked = sum(await servers.sums("vllm:prefix_cache_queries_total"))
        conversations = [["".join(pick.choices("abcdefghij ", k=1000))] for _ in range(16)]
        async with gateway(balance=balance) as front:
            for _ in range(3):
                pick.shuffle(conversations)
                for turns in conversations:
                    turns += [await front.answer(*turns), "And then?"]
        hits = sum(await servers.sums("vllm:prefix_cache_hits_total")) - before
        shares[balance] = hits / (sum(await servers.sums("vllm:prefix_cache_queries_total")) - asked)
    print("prefix cache hits, as a share of tokens:", shares)
    assert shares["prefix"] > 1.2 * shares["least_outstanding"] > 0, shares


async def test_servers_never_have_more_to_do_than_they_take_at_once(servers: Servers, gateway: Any) -> None:
    seen, most_waiting, looked = [0.0, 0.0], 0.0, 0

    def is_seen() -> bool:
        return looked >= 10 and most_waiting > 0 and all(most >= LIMIT / 2 for most in seen)

    async with gateway() as front, asyncio.timeout(120):

        async def ask(number: int) -> None:
            while not is_seen():
                await front.answer(f"question {number}", tokens=200)

        asked = asyncio.gather(*(ask(number) for number in range(6 * LIMIT)))
        while not is_seen():
            assert not asked.done(), asked.result()
            assert await servers.sums("vllm:num_requests_waiting") == [0, 0]
            seen = [max(pair) for pair in zip(seen, await servers.sums("vllm:num_requests_running"), strict=True)]
            assert max(seen) <= LIMIT
            most_waiting = max(most_waiting, await front.counted("largeforge_gateway_requests_waiting"))
            looked += 1
        await asked
    print("most that ran on each, and waited in the gateway:", seen, most_waiting)


async def test_clients_that_leave_stop_the_servers(servers: Servers, gateway: Any) -> None:
    before = sum(await servers.sums("vllm:generation_tokens_total"))
    async with gateway() as front:

        async def leave_a_stream(number: int) -> None:
            async with front.stream(f"leaving {number}", tokens=LONG) as lines:
                await anext(lines)

        whole = [asyncio.create_task(front.answer(f"whole {number}", tokens=LONG)) for number in range(3)]
        while sum(await servers.sums("vllm:num_requests_running")) < 3:
            assert not any(task.done() for task in whole)
        await asyncio.gather(*(leave_a_stream(number) for number in range(3)))
        for task in whole:
            task.cancel()
        await asyncio.gather(*whole, return_exceptions=True)
        while sum(await servers.sums("vllm:num_requests_running")):
            pass
        made = sum(await servers.sums("vllm:generation_tokens_total")) - before
        assert [replica["outstanding"] for replica in await front.replicas()] == [0, 0]
    print(f"tokens made for six clients that left: {made:.0f} of {6 * LONG}")
    assert 0 < made < 6 * LONG / 2


async def test_killing_a_server_under_load_loses_no_request_without_a_byte(servers: Servers, gateway: Any) -> None:
    outcomes: Counter[str] = Counter()
    done = asyncio.Event()

    async with gateway() as front:

        async def whole(number: int) -> None:
            await front.answer(f"whole {number}", tokens=30)
            outcomes["whole"] += 1
            done.set()

        async def stream(number: int) -> None:
            async with front.stream(f"stream {number}", tokens=150) as lines:
                data = [line.removeprefix("data: ") async for line in lines if line]
            if data[-1] == "[DONE]":
                outcomes["streamed"] += 1
                return
            assert json.loads(data[-1])["error"]["code"] == "expert_died"
            assert "choices" in json.loads(data[0]), "lost, though nothing of it had come"
            outcomes["broken off"] += 1

        load = [asyncio.create_task(ask(number)) for number in range(40) for ask in (whole, stream)]
        await done.wait()
        while sum(await servers.sums("vllm:num_requests_running")) < LIMIT:
            assert not all(task.done() for task in load)
        servers.kill(0)
        await asyncio.gather(*load)
        states = [(replica["state"], replica["outstanding"]) for replica in await front.replicas()]
        moved = await front.counted("largeforge_gateway_retries_total")
    print("a server killed under load:", dict(outcomes), f"{moved:.0f} moved")
    assert outcomes["whole"] == 40
    assert outcomes["streamed"] + outcomes["broken off"] == 40
    assert outcomes["broken off"] <= LIMIT
    assert moved > 0, "it was killed while it answered"
    assert states == [("down", 0), ("up", 0)]
