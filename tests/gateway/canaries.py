"""Gateways whose one expert has a canary."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
from prometheus_client import CollectorRegistry

from largeforge.gateway.admin.service import Admin
from largeforge.gateway.app import create_app
from largeforge.gateway.config import GatewayFile
from tests.gateway.conftest import OPERATES, TOKEN, FakeVllm, gateway_file, serve


class Rolled:
    """A gateway whose one expert has a canary."""

    def __init__(self, client: httpx.AsyncClient, stable: FakeVllm, canary: FakeVllm, registry: CollectorRegistry):
        self.client, self.stable, self.canary, self.registry = client, stable, canary, registry

    async def set(self, **patch: Any) -> dict[str, Any]:
        answer = await self.client.patch("/admin/state", json=patch)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def share(self, share: float | None) -> None:
        await self.set(canaries={"general": share})

    async def state(self) -> dict[str, Any]:
        return (await self.client.get("/admin/state")).json()

    async def ask(self, session: str = "", **body: Any) -> httpx.Response:
        headers = {"x-largeforge-session": session} if session else {}
        message = {"role": "user", "content": "hi"}
        return await self.client.post("/v1/chat/completions", json={"messages": [message], **body}, headers=headers)

    async def counts(self) -> dict[str, Any]:
        return (await self.client.get("/admin/arms")).json()["data"].get("general", {})

    async def counted(self, arm: str, **wanted: Any) -> dict[str, Any]:
        """Wait until one side has counts."""
        while True:
            found = (await self.counts()).get(arm, {})
            if wanted.items() <= found.items():
                return found
            assert all(found.get(key, 0) <= value for key, value in wanted.items() if isinstance(value, int)), found

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"largeforge_gateway_{name}", labels)


MakeRolled = Callable[..., Awaitable[Rolled]]


def with_canary(stable: str, canary: str, **gateway: Any) -> GatewayFile:
    values = gateway_file({"general": [stable, canary]}, **gateway).model_dump(mode="json")
    values["topology"]["sticky"] = "session"
    values["upstreams"]["general"][1] |= {"arm": "canary", "model": "registry:general/2", "lock": "lock-2"}
    return GatewayFile.model_validate(values)


@asynccontextmanager
async def gateways() -> AsyncIterator[MakeRolled]:
    """Yield what starts such gateways, and stop them all."""
    async with AsyncExitStack() as stack:

        async def make(admin: Admin = Admin(token=TOKEN), **gateway: Any) -> Rolled:  # noqa: B008 - frozen
            stable, canary = FakeVllm("stable"), FakeVllm("canary")
            servers = [await serve(stable.app), await serve(canary.app)]
            registry = CollectorRegistry()
            file = with_canary(*(server.url for server in servers), **gateway)
            running = await serve(create_app(file, registry=registry, admin=admin))
            client = httpx.AsyncClient(base_url=running.url, trust_env=False, headers=OPERATES, timeout=30)

            async def stop() -> None:
                await client.aclose()
                await asyncio.gather(running.stop(), *(server.stop() for server in servers))

            stack.push_async_callback(stop)
            return Rolled(client, stable, canary, registry)

        yield make
