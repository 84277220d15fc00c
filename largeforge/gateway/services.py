"""What routers may use of a running gateway: its servers, its clock, and a count of what became of their work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from prometheus_client import Counter

from largeforge.gateway.connection import ConnectionFailed, Pool
from largeforge.gateway.routing import ServiceFailed, Services

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from ssl import SSLContext

    from prometheus_client import CollectorRegistry

    from largeforge.gateway.backend import Replica, Target

MOST_ANSWER_BYTES = 64 * 2**20
_HEAD = b"content-type: application/json\r\n"


class Servers:
    """Connections of routers to servers, opened when they are first used."""

    def __init__(self, targets: Mapping[str, Target], *, connect_timeout_s: float):
        self._targets = targets
        self._connect_timeout_s = connect_timeout_s
        self._tls: SSLContext | None = None
        self._pools: dict[str, Pool] = {}

    async def post_json(self, server: str, path: str, body: Mapping[str, Any], *, head: bytes = b"") -> Any:
        """Send JSON to an expert's server, or to an address, and return the JSON of its answer; `head` are further
        header lines."""
        replica, given = self._replica(server), body
        if replica is not None:
            given = {**body, "model": replica.served_model}
        pool = replica.backend.pool if replica else self._pool(server)
        sent = orjson.dumps(given)
        try:
            try:
                status, content = await _ask(pool, path, sent, head)
            except ConnectionFailed as failed:
                if not failed.is_stale:
                    raise
                status, content = await _ask(pool, path, sent, head)
        except ConnectionFailed as failed:
            raise ServiceFailed(failed.why) from failed
        if status != 200:
            raise ServiceFailed(f"status-{status}")
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError:
            raise ServiceFailed("no-json") from None

    def follow(self, targets: Mapping[str, Target], tls: SSLContext | None) -> None:
        """Take another topology's experts for those that are asked by name, and make connections with its TLS."""
        self._targets, self._tls = targets, tls
        for pool in self._pools.values():
            pool.tls = tls

    def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            pool.close()

    def _replica(self, expert: str) -> Replica | None:
        """Return a replica of an expert, one that is well where there is one."""
        replicas = self._targets[expert].replicas if expert in self._targets else ()
        return next((one for one in replicas if one.backend.is_well), replicas[0] if replicas else None)

    def _pool(self, url: str) -> Pool:
        if url not in self._pools:
            self._pools[url] = Pool(url, connect_timeout_s=self._connect_timeout_s, tls=self._tls)
        return self._pools[url]


async def _ask(pool: Pool, path: str, body: bytes, head: bytes) -> tuple[int, bytes]:
    answer = await pool.request(b"POST", path.encode(), _HEAD + head, body)
    try:
        return answer.status, await answer.read(MOST_ANSWER_BYTES)
    finally:
        answer.close()


def services(servers: Servers, *, registry: CollectorRegistry, clock: Callable[[], float]) -> Services:
    """Return the services of a gateway; one set for as long as its process lives."""
    outcomes = Counter(
        "largeforge_gateway_router_outcomes",
        "What became of the work of routers that ask a server or keep a cache.",
        ["router", "outcome"],
        registry=registry,
    )
    decisions = Counter(
        "largeforge_gateway_route_decisions",
        "Where requests went, by what decided it: a router, the name of the model, or the default.",
        ["by", "expert"],
        registry=registry,
    )
    children: dict[tuple[str, str], Counter] = {}

    def decided(by: str, expert: str) -> None:
        child = children.get((by, expert))
        if child is None:
            child = children[by, expert] = decisions.labels(by, expert)
        child.inc()

    return Services(
        decided=decided,
        post_json=servers.post_json,
        count=lambda router, outcome: outcomes.labels(router, outcome).inc(),
        clock=clock,
    )
