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
from typing import TYPE_CHECKING, Any

from largeforge.gateway.upstream import UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from types import TracebackType

    from largeforge.gateway.backend import Backend, State, Target
    from largeforge.gateway.connection import Pool

TIMEOUTS_UNTIL_DOWN = 3


@dataclass
class _Watch:
    backend: Backend
    timeouts: int = 0
    probed: asyncio.Event = field(default_factory=asyncio.Event)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Health:
    """The state of every server; enter it to start the probes."""

    def __init__(
        self,
        probe: Callable[[Pool], Awaitable[None]],
        *,
        interval_s: float,
        startup_s: float,
        wall_clock: Callable[[], float] = time.time,
    ):
        self._probe = probe
        self._interval_s = interval_s
        self._startup_s = startup_s
        self._wall_clock = wall_clock
        self._watched: dict[str, _Watch] = {}
        self._targets: Mapping[str, Target] = {}

    async def __aenter__(self) -> Health:
        await self._started()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [watch.task for watch in self._watched.values() if watch.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def watch(self, targets: Mapping[str, Target]) -> None:
        """Watch the servers of these experts, and no others; those that are watched already are not asked anew."""
        self._targets = targets
        wanted = {replica.url: replica.backend for target in targets.values() for replica in target.replicas}
        for url in [url for url in self._watched if url not in wanted]:
            task = self._watched.pop(url).task
            if task is not None:
                task.cancel()
        for url, backend in wanted.items():
            if url not in self._watched:
                self._watched[url] = _Watch(backend)

    async def follow(self, targets: Mapping[str, Target]) -> None:
        """Watch these experts' servers from now on; return when each was asked once, or after a while."""
        self.watch(targets)
        await self._started()

    def mark_down(self, backend: Backend, reason: str, why: str) -> None:
        """Note that a request found a server dead, and probe it now; `why` is the reason in one word."""
        if backend.state != "down":
            self._set(backend, "down", reason, why)
            if watch := self._watched.get(backend.url):
                watch.wake.set()

    def ask_anew(self, backend: Backend) -> None:
        """Forget that a server was down while it was not in use, and probe it now."""
        if backend.state == "down":
            self._set(backend, "unknown", "not probed since it was undrained")
            if watch := self._watched.get(backend.url):
                watch.wake.set()

    def report(self) -> dict[str, dict[str, Any]]:
        """Return the state of each expert, why, and since when (seconds since the epoch), and those of its replicas."""
        return {name: self._of(target) for name, target in self._targets.items()}

    def _of(self, target: Target) -> dict[str, Any]:
        servers = [replica.backend for replica in target.replicas]
        best = next((server for server in servers if server.state == "up"), servers[0])
        said: dict[str, Any] = {"state": best.state, "reason": best.reason, "since": round(best.since, 3)}
        if best.state == "up" and best.trouble:
            said |= {"state": "down", "reason": best.trouble}
        said["replicas"] = [
            {
                "url": server.url, "state": server.state, "reason": server.reason, "breaker": server.breaker.state,
                "outstanding": server.load, "since": round(server.since, 3),
            }
            for server in servers
        ]  # fmt: skip
        return said

    async def _started(self) -> None:
        new = [watch for watch in self._watched.values() if watch.task is None]
        for watch in new:
            watch.task = asyncio.create_task(self._keep_asking(watch))
        with suppress(TimeoutError):
            async with asyncio.timeout(self._startup_s):
                await asyncio.gather(*(watch.probed.wait() for watch in new))

    async def _keep_asking(self, watch: _Watch) -> None:
        while True:
            watch.wake.clear()
            await self._check(watch)
            watch.probed.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s):
                    await watch.wake.wait()

    async def _check(self, watch: _Watch) -> None:
        backend = watch.backend
        try:
            await self._probe(backend.pool)
        except UpstreamFailed as failure:
            watch.timeouts = 0
            self._set(backend, "down", describe(failure), failure.kind)
        except TimeoutError:
            watch.timeouts += 1
            if backend.state != "up" or watch.timeouts >= TIMEOUTS_UNTIL_DOWN:
                self._set(backend, "down", "does not answer its health probe", "timeout")
        else:
            watch.timeouts = 0
            self._set(backend, "up", "")

    def _set(self, backend: Backend, state: State, reason: str, why: str = "") -> None:
        if backend.state != state:
            backend.since = self._wall_clock()
        backend.state = state
        backend.reason, backend.why = reason, why


def describe(failure: UpstreamFailed) -> str:
    """Return a failure in words that are safe to show to clients."""
    if failure.kind == "status":
        return f"answers with status {failure.status}"
    if failure.kind == "tls":
        return f"tls: {failure.detail}"
    words = {
        "refused": "refuses connections",
        "connect-timeout": "does not accept connections",
        "reset": "closed the connection",
        "broken": "answers with what is no HTTP",
        "timeout": "sent nothing in time",
        "no-json": "answers with what is no JSON",
    }
    return words[failure.kind]
