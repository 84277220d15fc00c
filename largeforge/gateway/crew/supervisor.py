"""Start the workers of a gateway, keep them running, and end with them.

All listen on one port, and the kernel spreads connections over them (SO_REUSEPORT). A worker that dies is started
again; while it does, the others answer. When this process is gone, however it ended, its workers stop.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.artifacts import write_json
from largeforge.errors import ServingError
from largeforge.gateway.admin.access import token_of
from largeforge.gateway.admin.controls import Controls
from largeforge.gateway.admin.reload import digest_of
from largeforge.gateway.crew.counts import Counts
from largeforge.gateway.crew.worker import Place
from largeforge.gateway.listening import bind, url_of
from largeforge.operators import TOKEN_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from largeforge.gateway.config import GatewayFile

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0
"""Pauses before a worker is started again, doubled each time until it has listened."""
FOLDER_PREFIX = "largeforge-gateway-"


def supervise(file: GatewayFile, config: Path, state: Path, *, on_listening: Callable[[str], None]) -> None:
    """Run the gateway's workers until SIGTERM or SIGINT; `on_listening` is called once, when all listen.

    Raises ServingError when the address cannot be listened on, or a worker does not start.
    """
    settings = file.gateway
    bind(settings.host, settings.port).close()  # says so when another process listens
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
    try:
        with bind(settings.host, settings.port, is_shared=True, listens=False) as holder:
            place = Place(folder, 0, settings.workers, holder.getsockname()[1], config.absolute(), state.absolute())
            write_json(place.in_force, file.model_dump(mode="json"), sort_keys=False)
            Counts.make(folder, workers=settings.workers)
            Controls(state, wall_clock=lambda: 0.0).follow_config(digest_of(file))
            with token_of(place.port) as token:
                environment = {**os.environ, TOKEN_VARIABLE: token}
                asyncio.run(Supervisor(place, environment, lambda: on_listening(url_of(holder))).run())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Supervisor:
    """The parent of all workers."""

    def __init__(self, place: Place, environment: Mapping[str, str], on_listening: Callable[[], None]):
        self._place = place
        self._environment = environment
        self._on_listening = on_listening
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
        async with asyncio.TaskGroup() as group:
            for worker in range(self._place.workers):
                group.create_task(self._keep(worker))
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
            env=self._environment,
        )  # fmt: skip
        self._children[worker] = child
        if self._stopping.is_set():
            child.terminate()
        assert child.stdout is not None
        has_listened = False
        while line := await child.stdout.readline():
            if _is_listening(line) and not has_listened:
                has_listened = True
                self._told(worker)
        code = await child.wait()
        del self._children[worker]
        return code, has_listened

    def _told(self, worker: int) -> None:
        was_complete = len(self._listening) == self._place.workers
        self._listening.add(worker)
        if not was_complete and len(self._listening) == self._place.workers:
            self._on_listening()

    def _stop(self) -> None:
        self._stopping.set()
        for child in self._children.values():
            with suppress(ProcessLookupError):
                child.terminate()

    def _reload(self) -> None:
        """Have one worker read the file again; the others follow it."""
        for child in list(self._children.values())[:1]:
            with suppress(ProcessLookupError):
                child.send_signal(signal.SIGHUP)


def _is_listening(line: bytes) -> bool:
    with suppress(ValueError):
        return bool(json.loads(line).get("kind") == "listening")
    return False


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
