"""Know which servers answer: active probes of `/health`, and what requests found out in passing.

A server is `unknown` until its first probe. A failed request marks it down at once and wakes the
probe, which has the last word; so one broken connection costs milliseconds, a dead server one
request. Probes that time out count only after several in a row: a busy server is not a dead one.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from largeforge.gateway.upstream import UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from types import TracebackType

    from largeforge.gateway.metrics import Metrics
    from largeforge.gateway.upstream import Target

TIMEOUTS_UNTIL_DOWN = 3

State = Literal["unknown", "up", "down"]


@dataclass
class _Server:
    url: str
    experts: list[str]
    state: State = "unknown"
    reason: str = "not probed yet"
    since: float = 0.0
    timeouts: int = 0
    probed: asyncio.Event = field(default_factory=asyncio.Event)
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class Health:
    """The state of every server; enter it to start the probes."""

    def __init__(
        self,
        targets: Mapping[str, Target],
        probe: Callable[[str], Awaitable[None]],
        *,
        interval_s: float,
        startup_s: float,
        metrics: Metrics,
        wall_clock: Callable[[], float] = time.time,
    ):
        self._probe = probe
        self._interval_s = interval_s
        self._startup_s = startup_s
        self._metrics = metrics
        self._wall_clock = wall_clock
        by_url: dict[str, _Server] = {}
        self._servers: dict[str, _Server] = {}
        for name, target in targets.items():
            server = by_url.setdefault(target.url, _Server(target.url, [], since=wall_clock()))
            server.experts.append(name)
            self._servers[name] = server
            metrics.upstream_up.labels(name).set(0)
        self._distinct = list(by_url.values())
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Health:
        self._tasks = [asyncio.create_task(self._watch(server)) for server in self._distinct]
        with suppress(TimeoutError):
            async with asyncio.timeout(self._startup_s):
                await asyncio.gather(*(server.probed.wait() for server in self._distinct))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def is_up(self, expert: str) -> bool:
        """Return whether the last word on the expert's server was good."""
        return self._servers[expert].state == "up"

    def is_down(self, expert: str) -> bool:
        """Return whether the expert's server is known to be down; an unknown one is worth a try."""
        return self._servers[expert].state == "down"

    def reason(self, expert: str) -> str:
        """Return why the expert's server is not up, in words; empty when it is."""
        return self._servers[expert].reason

    def mark_down(self, expert: str, reason: str) -> None:
        """Note that a request found the expert's server dead, and probe it now."""
        server = self._servers[expert]
        if server.state != "down":
            self._set(server, "down", reason)
            server.wake.set()

    def report(self) -> dict[str, dict[str, Any]]:
        """Return the state of each expert, why, and since when (seconds since the epoch)."""
        return {
            name: {"state": server.state, "reason": server.reason, "since": round(server.since, 3)}
            for name, server in self._servers.items()
        }

    async def _watch(self, server: _Server) -> None:
        while True:
            server.wake.clear()
            await self._check(server)
            server.probed.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s):
                    await server.wake.wait()

    async def _check(self, server: _Server) -> None:
        try:
            await self._probe(server.url)
        except UpstreamFailed as failure:
            server.timeouts = 0
            self._set(server, "down", describe(failure))
        except TimeoutError:
            server.timeouts += 1
            if server.state != "up" or server.timeouts >= TIMEOUTS_UNTIL_DOWN:
                self._set(server, "down", "does not answer its health probe")
        else:
            server.timeouts = 0
            self._set(server, "up", "")

    def _set(self, server: _Server, state: State, reason: str) -> None:
        if server.state != state:
            server.since = self._wall_clock()
        server.state = state
        server.reason = reason
        for expert in server.experts:
            self._metrics.upstream_up.labels(expert).set(1 if state == "up" else 0)


def describe(failure: UpstreamFailed) -> str:
    """Return a failure in words that are safe to show to clients."""
    if failure.kind == "status":
        return f"answers with status {failure.status}"
    words = {
        "refused": "refuses connections",
        "connect-timeout": "does not accept connections",
        "reset": "closed the connection",
        "broken": "answers with what is no HTTP",
    }
    return words[failure.kind]
