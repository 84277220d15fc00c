"""Of the processes of a gateway, one works on the batches; the others wait, and are ready when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import time
from pathlib import Path
from typing import Any

import pytest

from largeforge.gateway.bulk import worker
from largeforge.gateway.bulk.database import Database
from largeforge.gateway.bulk.worker import Worker


@contextlib.asynccontextmanager
async def waiting(folder: Path) -> Any:
    """A worker whose lock another process has, woken by a batch that was created at it."""
    for name in ("files", "uploads"):
        (folder / name).mkdir()
    database = Database(folder / "bulk.sqlite")
    await database.open()
    waiter = Worker(database, folder, start_run=lambda batch: pytest.fail("no"), keep_days=1, wall_clock=time.time)
    with (folder / "worker.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        working = asyncio.create_task(waiter.work())
        waiter.wake()
        yield lock
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    await database.close()


async def test_a_worker_without_the_lock_leaves_its_process_alone(tmp_path: Path, monkeypatch: Any) -> None:
    tries = []
    take = worker._take
    monkeypatch.setattr(worker, "_take", lambda lock: tries.append(lock) or (len(tries) > 99) or take(lock))
    async with waiting(tmp_path):
        for _ in range(50):
            await asyncio.sleep(0)
        assert 1 <= len(tries) <= 2


async def test_it_takes_over_when_the_other_ends(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(worker, "LOOK_AGAIN_S", 0.01)
    looked = asyncio.Event()

    async def look(self: Worker) -> None:
        looked.set()

    monkeypatch.setattr(Worker, "_look", look)
    async with waiting(tmp_path) as lock:
        await asyncio.sleep(0.05)
        assert not looked.is_set()
        fcntl.flock(lock, fcntl.LOCK_UN)
        await asyncio.wait_for(looked.wait(), 30)
