"""A replica killed under load as processes die: no request without a byte is lost, and the others see no error."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from largeforge.gateway.app import create_app
from tests.gateway.conftest import gateway_file, serve
from tests.gateway.rogues import DONE, EVENTS

ROGUES = Path(__file__).parent / "rogues.py"
NUM_SERVERS = 3
NUM_EACH = 120
"""Requests of each kind at once: far more on the one that dies than a fresh budget could try again."""


@pytest.fixture
async def processes() -> AsyncIterator[list[tuple[asyncio.subprocess.Process, str]]]:
    """Servers that can be killed."""
    started = [
        await asyncio.create_subprocess_exec(sys.executable, str(ROGUES), stdout=asyncio.subprocess.PIPE)
        for _ in range(NUM_SERVERS)
    ]
    found = []
    for process in started:
        assert process.stdout
        found.append((process, f"http://127.0.0.1:{int(await process.stdout.readline())}"))
    yield found
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("limit", [0, 16], ids=["all at once", "queued"])
async def test_a_killed_replica_loses_nothing_that_had_no_byte(processes, limit):
    registry, outcomes, first = CollectorRegistry(), Counter(), asyncio.Event()
    urls = [url for _, url in processes]
    queue = {"length": 2 * NUM_EACH - NUM_SERVERS * limit, "wait_s": 60}  # full, as the server dies
    patience = {"health_interval_s": 60, "connect_timeout_s": 60}  # servers may be slow to accept: none is away but one
    file = gateway_file({"general": urls}, limit=limit, queue=queue, **patience)
    gateway = await serve(create_app(file, registry=registry))
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=60, limits=limits) as client:

        async def ask(*, stream: bool) -> None:
            body = {"messages": [{"role": "user", "content": "hi"}], "stream": stream}
            said = await client.post("/v1/chat/completions", json=body)
            first.set()
            assert said.status_code == 200, said.text
            if not stream:
                outcomes["whole"] += 1
                return
            events = said.text.split("\n\n")[:-1]
            if said.text.encode().endswith(DONE):
                assert len(events) == EVENTS + 1
                outcomes["streamed"] += 1
                return
            assert json.loads(events[-1].strip().removeprefix("data: "))["error"]["code"] == "expert_died"
            assert "number" in json.loads(events[0].removeprefix("data: ")), "lost, though nothing of it had come"
            outcomes["broken off"] += 1

        load = [asyncio.create_task(ask(stream=number % 2 == 0)) for number in range(2 * NUM_EACH)]
        await first.wait()
        processes[0][0].kill()
        await asyncio.gather(*load)
        report = (await client.get("/ready")).json()["experts"]["general"]["replicas"]
        assert [(replica["state"], replica["outstanding"]) for replica in report] == [("down", 0), ("up", 0), ("up", 0)]
    await gateway.stop()
    assert outcomes["whole"] == NUM_EACH
    assert outcomes["streamed"] + outcomes["broken off"] == NUM_EACH
    moved = registry.get_sample_value("largeforge_gateway_retries_total", {"expert": "general", "why": "move"}) or 0
    retried = registry.get_sample_value("largeforge_gateway_retries_total", {"expert": "general", "why": "retry"}) or 0
    assert moved + outcomes["broken off"] > 0, "it was killed while it answered"
    assert not retried
    print("killed under load:", dict(outcomes), f"{moved:.0f} moved")
