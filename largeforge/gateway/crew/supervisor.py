"""Start the workers of a gateway, keep them running, and end with them.

All listen on one port, and the kernel spreads connections over them (SO_REUSEPORT); where this process was given a
socket that listens already, all accept from that one. A worker that dies is started again; while it does, the others
answer. When this process is gone, however it ended, its workers stop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.artifacts import write_json
from largeforge.errors import ServingError
from largeforge.events import decode
from largeforge.gateway.activation import inherited
from largeforge.gateway.admin.access import token_of
from largeforge.gateway.admin.controls import Controls
from largeforge.gateway.admin.reload import digest_of
from largeforge.gateway.certificates import certificates
from largeforge.gateway.crew.counts import Counts
from largeforge.gateway.crew.telling import Pulse
from largeforge.gateway.crew.worker import Place
from largeforge.gateway.listening import bind, url_of
from largeforge.operators import TOKEN_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from largeforge.gateway.config import GatewayFile
    from largeforge.gateway.notify import Notifier

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0
"""Pauses before a worker is started again, doubled each time until it has listened."""
FOLDER_PREFIX = "largeforge-gateway-"


def supervise(
    file: GatewayFile, config: Path, state: Path, *, notifier: Notifier, on_listening: Callable[[str], None]
) -> None:
    """Run the gateway's workers until SIGTERM or SIGINT, and end them at once at the second of these.

    `on_listening` is called once, when all listen.

    Raises ServingError when the address cannot be listened on, or a worker does not start.
    """
    settings = file.gateway
    given = inherited(settings.host, settings.port)
    if given is None:
        bind(settings.host, settings.port).close()  # says so when another process listens
    certificates(settings)  # says so when one cannot be read
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
    pulse = Pulse(notifier)
    try:
        with given or bind(settings.host, settings.port, is_shared=True, listens=False) as holder:
            place = Place(
                folder, 0, settings.workers, holder.getsockname()[1], config.absolute(), state.absolute(),
                listener=given.fileno() if given else -1, beat_s=pulse.beat_s,
            )  # fmt: skip
            write_json(place.in_force, file.model_dump(mode="json"), sort_keys=False)
            Counts.make(folder, workers=settings.workers)
            asyncio.run(Controls(state, wall_clock=lambda: 0.0).follow_config(digest_of(file)))
            with token_of(place.port) as token:
                environment = {**os.environ, TOKEN_VARIABLE: token}
                url = url_of(holder, is_tls=bool(settings.tls.certificate))
                supervisor = Supervisor(
                    place, environment, notifier, pulse, drain_s=settings.drain_timeout_s,
                    on_listening=lambda: on_listening(url),
                )  # fmt: skip
                asyncio.run(supervisor.run())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Supervisor:
    """The parent of all workers."""

    def __init__(
        self,
        place: Place,
        environment: Mapping[str, str],
        notifier: Notifier,
        pulse: Pulse,
        *,
        drain_s: float,
        on_listening: Callable[[], None],
    ):
        self._place = place
        self._environment = environment
        self._notifier, self._pulse = notifier, pulse
        self._drain_s = drain_s
        self._on_listening = on_listening
        self._reloading: set[int] = set()
        """Workers that take up another configuration."""
        self._children: dict[int, asyncio.subprocess.Process] = {}
        self._listening: set[int] = set()
        self._stopping = asyncio.Event()
        self._failed = ""

    async def run(self) -> None:
        """Run until told to stop.

        Raises ServingError when a worker ends before all have listened.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        beating = asyncio.create_task(self._beat())
        try:
            async with asyncio.TaskGroup() as group:
                for worker in range(self._place.workers):
                    group.create_task(self._keep(worker))
        finally:
            beating.cancel()
        if self._failed:
            raise ServingError(self._failed)

    async def _keep(self, worker: int) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._stopping.is_set():
            code, has_listened = await self._run_once(worker)
            if self._stopping.is_set():
                return
            if len(self._listening) < self._place.workers:
                self._failed = f"worker {worker} of the gateway ended with exit code {code} before all listened."
                self._stop()
                return
            logger.error("worker %d ended with exit code %d; it is started again in %g s", worker, code, pause_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()
            pause_s = FIRST_PAUSE_S if has_listened else min(2 * pause_s, LONGEST_PAUSE_S)

    async def _run_once(self, worker: int) -> tuple[int, bool]:
        """Run a worker to its end; return its exit code, and whether it has listened."""
        argument = replace(self._place, worker=worker).as_argument()
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "largeforge.gateway", "--config", str(self._place.in_force), "--worker", argument,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
            env=self._environment, pass_fds=() if self._place.listener < 0 else (self._place.listener,),
        )  # fmt: skip
        self._children[worker] = child
        if self._stopping.is_set():
            child.terminate()
        assert child.stdout is not None
        has_listened = False
        while line := await child.stdout.readline():
            event = decode(line.decode(errors="replace")) or {"kind": ""}
            if event["kind"] == "listening" and not has_listened:
                has_listened = True
                self._told(worker)
            self._tell_on(worker, event)
        code = await child.wait()
        del self._children[worker]
        self._pulse.forget(worker)
        self._tell_on(worker, {"kind": "ready"})
        return code, has_listened

    def _told(self, worker: int) -> None:
        was_complete = len(self._listening) == self._place.workers
        self._listening.add(worker)
        if not was_complete and len(self._listening) == self._place.workers:
            self._on_listening()
            self._notifier.ready()

    def _tell_on(self, worker: int, event: Mapping[str, Any]) -> None:
        """Tell the service manager what a worker has told."""
        if event["kind"] == "alive":
            self._pulse.hear(worker, str(event.get("status", "")))
        elif event["kind"] == "reloading":
            self._reloading.add(worker)
            self._notifier.reloading()
        elif event["kind"] == "ready" and worker in self._reloading:
            self._reloading.discard(worker)
            self._notifier.ready()

    async def _beat(self) -> None:
        while self._notifier.beat_s:
            await asyncio.sleep(self._notifier.beat_s)
            if len(self._listening) == self._place.workers:
                self._pulse.tell()

    def _stop(self) -> None:
        """Let workers end; the second time at once. Not by SIGTERM, which they may get from others as well."""
        number = signal.SIGQUIT if self._stopping.is_set() else signal.SIGTERM
        if not self._stopping.is_set():
            self._notifier.stopping(self._drain_s)
        self._stopping.set()
        for child in self._children.values():
            with suppress(ProcessLookupError):
                child.send_signal(number)

    def _reload(self) -> None:
        """Have one worker read the file again; the others follow it. The service manager hears of it by the worker."""
        for child in list(self._children.values())[:1]:
            with suppress(ProcessLookupError):
                child.send_signal(signal.SIGHUP)


def stop_without_parent(stop: Callable[[], None]) -> None:
    """Call `stop` once the parent, which holds the other end of standard input, is gone; call on the event loop."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        with suppress(OSError):
            if os.read(0, 1):
                return
        loop.remove_reader(0)
        stop()

    loop.add_reader(0, read)
