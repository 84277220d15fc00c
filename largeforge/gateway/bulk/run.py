"""Take one batch from where it is to its end: look at its lines, have them answered, write the files.

Whatever has been done is in the database; a run that is stopped, by whatever, is begun again from there.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
from functools import partial
from typing import TYPE_CHECKING

from largeforge.gateway.bulk import answering, batches, files, lines, outputs, validation
from largeforge.gateway.bulk.batches import Fault
from largeforge.gateway.bulk.lines import Line

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from pathlib import Path

    from largeforge.gateway.bulk.answering import Answered, Answerer
    from largeforge.gateway.bulk.batches import Batch, Ending
    from largeforge.gateway.bulk.database import Database
    from largeforge.gateway.bulk.slots import Slots

logger = logging.getLogger(__name__)

LINES_AT_ONCE = 200
"""Lines that are looked at before they are kept, and others may go on."""


class Run:
    """The work on one batch."""

    def __init__(
        self,
        batch: Batch,
        *,
        database: Database,
        folder: Path,
        answer: Answerer,
        slots: Slots,
        most_at_once: int,
        max_line_bytes: int,
        wall_clock: Callable[[], float],
    ):
        self._batch = batch
        self._database = database
        self._folder = folder
        self._answer = answer
        self._slots = slots
        self._most_at_once = most_at_once
        self._max_line_bytes = max_line_bytes
        self._wall_clock = wall_clock
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Stop answering; those that answer are told that nobody waits."""
        self._stopped.set()

    async def run(self) -> None:
        """Do what is left to do until the end, or until it is stopped."""
        batch = self._batch
        if batch.status == "validating":
            await self._validate()
            batch = await self._now()
        if batch.status == "in_progress":
            await self._answer_all()
            batch = await self._now()
        if batch.status in ("failed", *batches.ENDED):
            return
        ending = self._ending(batch)
        if ending is None:
            return
        if batch.times["in_progress_at"] is None:
            await self._database.do(lambda connection: lines.remove(connection, batch.seq))
        await self._finalize(ending)

    def _ending(self, batch: Batch) -> Ending | None:
        """Return what a batch that is no longer answered is to end as; None when it is to be taken up again."""
        if batch.status == "cancelling":
            return "cancelled"
        if batch.ending is not None:
            return batch.ending
        if self._wall_clock() >= batch.expires_at:
            return "expired"
        return None if self._stopped.is_set() else "completed"

    async def _now(self) -> Batch:
        batch = await self._database.do(lambda connection: batches.get(connection, self._batch.id))
        assert batch is not None
        return batch

    async def _validate(self) -> None:
        seq, path = self._batch.seq, self._folder / "files" / self._batch.input_file_id
        await self._database.do(lambda connection: lines.remove(connection, seq))
        faults: list[Fault] = []
        total = 0
        found = validation.look(path, endpoint=self._batch.endpoint, max_line_bytes=self._max_line_bytes)
        try:
            while page := await asyncio.to_thread(lambda: list(itertools.islice(found, LINES_AT_ONCE))):
                if self._stopped.is_set():
                    return
                good = [item for item in page if isinstance(item, Line)]
                faults += [item for item in page if isinstance(item, Fault)]
                total += len(good)
                await self._database.do(partial(lines.add, batch=seq, lines=good))
        except FileNotFoundError:
            faults.append(Fault("file_not_found", f"{self._batch.input_file_id} is not there any more."))
        now = int(self._wall_clock())

        def decide(connection: sqlite3.Connection) -> None:
            if faults:
                lines.remove(connection, seq)
                batches.fail(connection, seq, faults, now=now)
            else:
                batches.begin(connection, seq, total=total, now=now)

        await self._database.do(decide)
        logger.info("batch", extra={"fields": {"batch": self._batch.id, "lines": total, "faults": len(faults)}})

    async def _answer_all(self) -> None:
        """Have all waiting lines answered, so many at once that a slot is never idle for want of one."""
        room = asyncio.Semaphore(self._most_at_once)
        descriptor = os.open(self._folder / "files" / self._batch.input_file_id, os.O_RDONLY)
        try:
            async with asyncio.TaskGroup() as tasks:
                last = 0
                while not self._stopped.is_set() and (page := await self._waiting(last)):
                    for line in page:
                        await room.acquire()
                        if self._stopped.is_set():
                            break
                        task = tasks.create_task(self._answer_line(descriptor, line))
                        task.add_done_callback(lambda _: room.release())
                    last = page[-1].number
        finally:
            os.close(descriptor)

    async def _waiting(self, last: int) -> list[Line]:
        return await self._database.do(
            lambda connection: lines.waiting(connection, self._batch.seq, after=last, limit=self._most_at_once)
        )

    async def _answer_line(self, descriptor: int, line: Line) -> None:
        """Ask until there is an answer that counts, and keep it."""
        raw = await asyncio.to_thread(os.pread, descriptor, line.length, line.offset)
        body = validation.request_of(raw)
        for attempt in itertools.count(1):
            async with self._slots.one():
                if self._stopped.is_set():
                    return
                answered = await self._answer(self._batch.endpoint, body, self._batch.headers, self._stopped)
            verdict = answering.judge(answered, attempt=attempt)
            if verdict == "answered" or (verdict == "failed" and not self._stopped.is_set()):
                await self._settle(line, answered, is_answered=verdict == "answered")
                return
            if await self._wait(answering.delay_s(answered, attempt=attempt, random=random.random())):
                return

    async def _settle(self, line: Line, answered: Answered, *, is_answered: bool) -> None:
        await self._database.do(
            lambda connection: lines.settle(
                connection,
                self._batch.seq,
                line.number,
                is_answered=is_answered,
                status_code=answered.status,
                request_id=answered.request_id,
                body=answered.body,
            )
        )

    async def _wait(self, seconds: float) -> bool:
        """Wait; return early, and whether that is so, when the run is stopped."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            return False
        return True

    async def _finalize(self, ending: Ending) -> None:
        now = int(self._wall_clock())
        batch = await self._database.do(
            lambda connection: batches.finalize(
                connection,
                self._batch.seq,
                ending=ending,
                output_file_id=files.new_id(),
                error_file_id=files.new_id(),
                now=now,
            )
        )
        await outputs.write(self._database, self._folder, batch, now=int(self._wall_clock()))
        counts = {"total": batch.total, "completed": batch.completed, "failed": batch.failed}
        logger.info("batch", extra={"fields": {"batch": batch.id, "ended": batch.ending, **counts}})
