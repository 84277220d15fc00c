"""What the gateway serves right now, and how that is replaced by another topology without dropping a request.

A `Generation` is made from one gateway file and never changes. Requests that began with one end with it: its servers
and routers are let go when the next one has taken over and its last request is answered.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from largeforge.errors import Problem, RecipeError
from largeforge.gateway import backend, upstream
from largeforge.gateway.admin.state import State
from largeforge.gateway.arms import Split
from largeforge.gateway.dispatch import Dispatch
from largeforge.gateway.gauges import Gauges, served
from largeforge.gateway.health import Health
from largeforge.gateway.routing import Routing, routing_of
from largeforge.gateway.services import Servers, services
from largeforge.gateway.tasks import Tasks
from largeforge.gateway.waiting import Waiting
from largeforge.recipe.sections.tls import UpstreamTls
from largeforge.tls import client_context

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from ssl import SSLContext
    from types import TracebackType

    from prometheus_client import CollectorRegistry

    from largeforge.gateway.backend import Backend, Target
    from largeforge.gateway.config import GatewayFile
    from largeforge.gateway.crew.worker import Place
    from largeforge.gateway.metrics import Metrics
    from largeforge.recipe.schema import Gateway, Topology
    from largeforge.recipe.sections.resilience import Queue

DRAIN_EVERY_S = 0.2
LOOK_FOR_ROOM_S = 0.02


@dataclass(frozen=True)
class Generation:
    """All that follows from one gateway file."""

    file: GatewayFile
    targets: Mapping[str, Target]
    fallbacks: Mapping[str, tuple[str, ...]]
    """Experts that answer in the place of each, one after the other."""
    tasks: Tasks
    routing: Routing
    dispatch: Dispatch
    split: Split
    """Whose requests canaries answer."""
    tls: SSLContext | None
    """What connections to servers are made with where these speak TLS; None where none does."""


class Live:
    """The generation that serves; enter it on the event loop that uses it."""

    def __init__(
        self,
        file: GatewayFile,
        *,
        metrics: Metrics,
        registry: CollectorRegistry,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        place: Place | None = None,
    ):
        """Take the first file; `place` is that of this process among the workers of one gateway."""
        self._place = place
        self.loop: asyncio.AbstractEventLoop
        self._clock, self._wall_clock, self._metrics = clock, wall_clock, metrics
        timeout_s = file.gateway.connect_timeout_s
        self.health = Health(
            lambda pool: upstream.probe(pool, timeout_s=max(timeout_s, upstream.PROBE_TIMEOUT_S)),
            interval_s=file.gateway.health_interval_s, startup_s=timeout_s, wall_clock=wall_clock,
        )  # fmt: skip
        self.servers = Servers({}, connect_timeout_s=timeout_s)
        self._services = services(self.servers, registry=registry, clock=clock)
        self.waiting = Waiting(self._share_of(file.gateway.queue), told=metrics.waited)
        Gauges(registry, targets=lambda: self.now.targets, waiting=self.waiting.length)
        self._state = State()
        self._lock = asyncio.Lock()
        self._letting_go: set[asyncio.Task[None]] = set()
        self._stack = AsyncExitStack()
        self.now = self._generation(file, {})
        backend.adopt(file, self.now.targets, self.now.tls)
        self.servers.follow(self.now.targets, self.now.tls)
        self.health.watch(self.now.targets)
        metrics.follow(served(self.now.targets))

    async def __aenter__(self) -> Live:
        self.loop = asyncio.get_running_loop()
        await self._stack.enter_async_context(self.health)
        if self._place is not None:
            looking = asyncio.create_task(self._look_for_room())
            self._stack.callback(looking.cancel)
        await self.now.routing.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._letting_go:
            task.cancel()
        await self.now.routing.stop()
        await self._stack.aclose()
        self.servers.close()
        for server in backend.backends(self.now.targets).values():
            server.pool.close()

    async def replace(self, file: GatewayFile) -> Generation:
        """Serve another file from now on and return its generation; the old one finishes what it has begun.

        Raises RecipeError when the file cannot take over, and nothing has changed then.
        """
        async with self._lock:
            old = self.now
            if changed := _differing(file.gateway, old.file.gateway):
                rule = "is only taken up by a new process; start the gateway anew, or leave it as it is"
                raise RecipeError([Problem(f"gateway.{key}", rule) for key in changed])
            new = self._generation(file, backend.backends(old.targets))
            try:
                self.servers.follow(new.targets, new.tls)
                await new.routing.start()
                backend.adopt(file, new.targets, new.tls)
                await self.health.follow(new.targets)  # so that no request meets a server that nobody has asked yet
            except BaseException:
                await self._return_to(old, new)
                raise
            self.waiting.settings = self._share_of(file.gateway.queue)
            self.now = new
            self._metrics.follow(served(new.targets))
            self._apply()
            backend.forget_drained(old.targets, new.targets)
            self.waiting.wake_all()  # those that wait for a server which has another in its place now
            task = asyncio.create_task(self._let_go(old))
            self._letting_go.add(task)
            task.add_done_callback(self._letting_go.discard)
            return new

    def obey(self, state: State) -> None:
        """Drain and undrain servers, and leave out what nobody waits for, as operators have set it."""
        self._state = state
        self._apply()

    def _apply(self) -> None:
        self.now.dispatch.hedges = not self._state.spares
        for url, server in backend.backends(self.now.targets).items():
            was, server.is_drained = server.is_drained, url in self._state.drained
            if was and not server.is_drained:
                self.health.ask_anew(server)
                self.waiting.wake(server.experts)

    async def _return_to(self, old: Generation, new: Generation) -> None:
        """Undo what was done for a generation that could not take over."""
        self.servers.follow(old.targets, old.tls)
        backend.adopt(old.file, old.targets, old.tls)
        self.health.watch(old.targets)
        kept = backend.backends(old.targets)
        for url, server in backend.backends(new.targets).items():
            if url not in kept:
                server.pool.close()
        await new.routing.stop()

    def _generation(self, file: GatewayFile, kept: Mapping[str, Backend]) -> Generation:
        topology, settings = file.topology, file.gateway
        tls = _tls(file)
        routing = routing_of(file.router, topology, self._services)
        targets = backend.targets(file, clock=self._clock, wall_clock=self._wall_clock, kept=kept, tls=tls)
        if self._place is not None:
            for server in backend.backends(targets).values():
                self._place.count(server)
        fallbacks = {name: _in_place_of(name, topology) for name in topology.experts}
        tasks = Tasks({name: expert.task for name, expert in topology.experts.items()})
        dispatch = Dispatch(
            settings, self.health, self.waiting, self._metrics, successor=lambda name: self._successor(file, name)
        )
        split = Split(topology, self._services.random)
        return Generation(file, targets, fallbacks, tasks, routing, dispatch, split, tls)

    def _successor(self, file: GatewayFile, expert: str) -> Target | None:
        """Return an expert as it is served now, for a request that came under a file before; None where requests are
        routed in another way by now, so that nothing answers what it was not chosen for."""
        now = self.now
        if now.file is file or (now.file.router, now.file.topology) != (file.router, file.topology):
            return None
        return now.targets.get(expert)

    def _share_of(self, queue: Queue) -> Queue:
        """Return the part of the queue that this worker keeps."""
        if self._place is None:
            return queue
        return queue.model_copy(update={"length": -(-queue.length // self._place.workers)})

    async def _look_for_room(self) -> None:
        """Let those that wait look again and again: another worker does not say when it has made room."""
        while True:
            await asyncio.sleep(LOOK_FOR_ROOM_S)
            self.waiting.wake_all()

    async def _let_go(self, old: Generation) -> None:
        """Close what only the old generation used, once its requests are answered."""
        used = backend.backends(self.now.targets)
        gone = [server for url, server in backend.backends(old.targets).items() if url not in used]
        while any(server.outstanding for server in gone):  # noqa: ASYNC110 - nobody needs to know at once
            await asyncio.sleep(DRAIN_EVERY_S)
        for server in gone:  # a request that was routed before may yet come to it
            server.pool.retire()
        await old.routing.stop()


def _tls(file: GatewayFile) -> SSLContext | None:
    """Return what connections to servers are made with, None where that is never asked: reading it all takes a while.

    Raises RecipeError where a file cannot be used.
    """
    settings = file.gateway.upstream_tls
    urls = [server.url for servers in file.upstreams.values() for server in servers] + [file.gateway.quality.judge.url]
    if settings == UpstreamTls() and not any(url.startswith("https:") for url in urls):
        return None
    return client_context(**settings.model_dump(), section="gateway.upstream_tls")


def _in_place_of(name: str, topology: Topology) -> tuple[str, ...]:
    """Return who answers when an expert does not; where nothing is written only experts that generate have somebody,
    since vectors and scores of another model mean something else."""
    expert = topology.experts[name]
    if expert.fallback is not None:
        return tuple(other for other in expert.fallback if other != name)
    return (topology.fallback,) if expert.task == "generate" and name != topology.fallback else ()


def _differing(new: Gateway, old: Gateway) -> list[str]:
    """Return the settings that only a new process takes up, and that are others."""
    before = old.of_the_process()
    return [key for key, value in new.of_the_process().items() if value != before[key]]
