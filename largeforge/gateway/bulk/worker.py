"""Work on all unfinished batches of a folder: of several gateways that share it, the one that holds its lock.

The lock is the kernel's and ends with the process that holds it, however that ends; another takes over then.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import time
from functools import partial
from typing import TYPE_CHECKING

from largeforge.gateway.bulk import batches, files

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from pathlib import Path

    from largeforge.gateway.bulk.batches import Batch
    from largeforge.gateway.bulk.database import Database
    from largeforge.gateway.bulk.run import Run

logger = logging.getLogger(__name__)

LOOK_AGAIN_S = 1.0
"""How often the database is asked what another gateway may have changed, and what has expired."""
CLEAN_EVERY_S = 600.0
ABANDONED_S = 86_400
"""Age from which something that belongs to no row has been left behind."""
_DAY_S = 86_400


class Worker:
    """Runs batches; `start_run` makes the work on one."""

    def __init__(
        self,
        database: Database,
        folder: Path,
        *,
        start_run: Callable[[Batch], Run],
        keep_days: float,
        wall_clock: Callable[[], float],
    ):
        self._database = database
        self._folder = folder
        self._start_run = start_run
        self._keep_s = keep_days * _DAY_S
        self._wall_clock = wall_clock
        self._changed = asyncio.Event()
        self._runs: dict[int, tuple[Run, asyncio.Task[None]]] = {}

    def wake(self) -> None:
        """Look at once whether there is something to do."""
        self._changed.set()

    async def work(self) -> None:
        """Work until cancelled; what is not finished then is taken up by the next that works."""
        lock = os.open(self._folder / "worker.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            while not _take(lock):
                self._changed.clear()  # it is for whoever has the lock; set, no pause would ever wait
                await self._pause()
            cleaned = -CLEAN_EVERY_S
            while True:
                self._changed.clear()
                if (now := time.monotonic()) - cleaned >= CLEAN_EVERY_S:
                    cleaned = now
                    await self._clean()
                await self._look()
                await self._pause()
        finally:
            await self._stop_all()
            os.close(lock)

    async def _look(self) -> None:
        """Start what is to be worked on, and stop what has been cancelled or has expired."""
        for batch in await self._database.do(batches.unfinished):
            known = self._runs.get(batch.seq)
            if known is None:
                run = self._start_run(batch)
                task = asyncio.create_task(self._run(batch, run))
                self._runs[batch.seq] = (run, task)
            elif batch.status == "cancelling" or self._wall_clock() >= batch.expires_at:
                known[0].stop()

    async def _run(self, batch: Batch, run: Run) -> None:
        try:
            await run.run()
        except Exception:
            logger.exception("batch %s: failed; it is taken up again", batch.id)
            await asyncio.sleep(LOOK_AGAIN_S)
        finally:
            del self._runs[batch.seq]
            self.wake()

    async def _stop_all(self) -> None:
        for run, _ in self._runs.values():
            run.stop()
        await asyncio.gather(*(task for _, task in self._runs.values()), return_exceptions=True)

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_AGAIN_S):
                await self._changed.wait()

    async def _clean(self) -> None:
        """Remove what is older than it is to be kept, and what a process that was killed has left behind."""
        now = self._wall_clock()
        created_before = int(now - self._keep_s)

        def forget(connection: sqlite3.Connection) -> list[str]:
            outdated = files.outdated(connection, now=int(now), created_before=created_before)
            for file_id in outdated:
                files.remove(connection, file_id)
            batches.remove_outdated(connection, created_before=created_before)
            return outdated

        for file_id in await self._database.do(forget):
            (self._folder / "files" / file_id).unlink(missing_ok=True)
        for path in await asyncio.to_thread(_old_files, self._folder, now - ABANDONED_S):
            is_known = await self._database.do(partial(files.get, file_id=path.name))
            if path.parent.name == "uploads" or is_known is None:
                path.unlink(missing_ok=True)
        await self._database.shrink()


def _take(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _old_files(folder: Path, changed_before: float) -> list[Path]:
    paths = [path for name in ("uploads", "files") for path in (folder / name).iterdir()]
    return [path for path in paths if path.stat().st_mtime < changed_before]
