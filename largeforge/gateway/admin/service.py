"""Operating a gateway as one part of it: what is set, who is obeyed, and the metric that shows it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from prometheus_client.core import GaugeMetricFamily

from largeforge.gateway.admin.access import Access
from largeforge.gateway.admin.controls import Controls
from largeforge.gateway.admin.pages import AdminPages
from largeforge.gateway.admin.reload import Reloading
from largeforge.gateway.admin.state import MODES
from largeforge.gateway.notify import Notifier
from largeforge.gateway.running import Running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric
    from starlette.routing import BaseRoute

    from largeforge.gateway.certificates import Certificates
    from largeforge.gateway.crew.whole import Whole
    from largeforge.gateway.live import Live
    from largeforge.gateway.notify import Told


@dataclass(frozen=True)
class Admin:
    """What a process knows of its operators and of where things are kept."""

    token: str = ""
    """What operators must show; empty lets nobody in."""
    config: Path | None = None
    """File that the gateway was started with; None keeps nothing."""
    state: Path | None = None
    """File of what operators have set; None keeps it in memory."""
    shared: Path | None = None
    """Copy of the gateway file in force, which the workers of one gateway follow; None where there is one worker."""
    certificates: Certificates | None = None
    """What clients are shown; None where there is no TLS."""
    told: Told = field(default_factory=Notifier)
    """Who is told of a reload."""

    def of(self, live: Live, *, registry: CollectorRegistry, wall_clock: Callable[[], float]) -> Operated:
        """Return what operates a gateway; raises RecipeError when the state cannot be read."""
        controls = Controls(self.state, wall_clock=wall_clock)
        reloading = Reloading(
            live, controls, path=self.config, shared=self.shared, certificates=self.certificates, told=self.told
        )
        operated = Operated(live, controls, reloading, Access(self.token))
        registry.register(ModeCollector(controls))
        return operated


def state_of(config: Path) -> Path:
    """Return the file that keeps what operators have set on the gateway of a gateway file."""
    return config.with_suffix(".state.json")


class Operated:
    """A gateway's operation while its lifespan is entered."""

    def __init__(self, live: Live, controls: Controls, reloading: Reloading, access: Access):
        self.controls = controls
        self.running = Running()
        self._reloading = reloading
        self._watching: asyncio.Task[None] | None = None
        self._live, self.access = live, access
        controls.listen(lambda document: live.obey(document.state))
        controls.listen(self.running.obey)
        controls.listen(reloading.obey)
        controls.listen_to_others(reloading.look_at_certificates)

    def routes(self, whole: Whole) -> list[BaseRoute]:
        """Return the pages of operators."""
        return AdminPages(self._live, self.controls, self._reloading, whole, self.access).routes()

    async def __aenter__(self) -> Self:
        """Begin to follow other workers, and to reread the gateway file at SIGHUP."""
        self._watching = asyncio.create_task(self.controls.watch())
        with contextlib.suppress(ValueError, RuntimeError):  # only a main thread has signals
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reloading.begin_reread)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._watching is not None
        self._watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._watching
        await self._reloading.stop()


class ModeCollector:
    """Shows what operators have set to Prometheus."""

    def __init__(self, controls: Controls):
        self._controls = controls

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        state = self._controls.now
        prefix = "largeforge_gateway"
        modes = GaugeMetricFamily(f"{prefix}_mode", "1 for the mode in force.", labels=["mode"])
        for mode in (*MODES, "emergency"):
            modes.add_metric([mode], float(state.in_force == mode))
        yield modes
        isolated = GaugeMetricFamily(f"{prefix}_isolated", "Who is isolated by operators.", labels=["kind", "name"])
        for kind, names in (("expert", state.experts), ("tenant", state.tenants)):
            for name in names:
                isolated.add_metric([kind, name], 1.0)
        yield isolated
        yield GaugeMetricFamily(
            f"{prefix}_servers_drained", "Servers that get no new requests.", value=len(state.drained)
        )
