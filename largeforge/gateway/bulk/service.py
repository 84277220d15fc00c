"""Files and batches as one part of the gateway: a folder, its routes, and the work that goes on behind them."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from starlette.routing import Route

from largeforge.errors import ServingError
from largeforge.gateway.bulk import answering
from largeforge.gateway.bulk.batch_pages import BatchPages
from largeforge.gateway.bulk.database import Database
from largeforge.gateway.bulk.file_pages import FilePages
from largeforge.gateway.bulk.run import Run
from largeforge.gateway.bulk.slots import Slots
from largeforge.gateway.bulk.worker import Worker
from largeforge.gateway.endpoint import Endpoint
from largeforge.gateway.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from largeforge.gateway.bulk.batches import Batch
    from largeforge.gateway.loopback import Loopback
    from largeforge.recipe.schema import Gateway


class Service(Protocol):
    """Files and batches, whether or not there are any."""

    routes: list[BaseRoute]

    def running(self) -> AbstractAsyncContextManager[object]:
        """Work while the context is entered."""


def service(
    settings: Gateway,
    loopback: Loopback,
    *,
    num_others: Callable[[], int],
    is_paused: Callable[[], bool],
    wall_clock: Callable[[], float],
) -> Service:
    """Return the files and batches that a gateway's settings ask for.

    Batches yield to the requests of others, of which `num_others` are running, and rest while they are paused.
    """
    if not settings.batches.folder:
        return Off()
    slots = Slots(settings.batches.concurrency, num_others, is_paused)
    return Bulk(settings, loopback, slots, wall_clock=wall_clock)


class Off:
    """No files and no batches: the addresses say so."""

    def __init__(self) -> None:
        paths = ("/v1/files", "/v1/files/{rest:path}", "/v1/batches", "/v1/batches/{rest:path}")
        endpoint = Endpoint(**dict.fromkeys(("GET", "POST", "DELETE"), self._refuse))
        self.routes: list[BaseRoute] = [Route(path, endpoint, methods=endpoint.methods) for path in paths]

    def running(self) -> AbstractAsyncContextManager[object]:
        """Do nothing."""
        return contextlib.nullcontext()

    async def _refuse(self, _: Request) -> Response:
        message = "This gateway keeps no files and runs no batches; gateway.batches.folder would say where."
        raise ApiError(404, message, code="batches_off")


class Bulk:
    """Files and batches in a folder."""

    def __init__(self, settings: Gateway, loopback: Loopback, slots: Slots, *, wall_clock: Callable[[], float]):
        self._settings = settings
        self._folder = Path(settings.batches.folder).expanduser()
        self._database = Database(self._folder / "bulk.sqlite")
        self._answer = answering.through(loopback)
        self._wall_clock = wall_clock
        self._slots = slots
        self._worker = Worker(
            self._database,
            self._folder,
            start_run=self._run,
            keep_days=settings.batches.keep_days,
            wall_clock=wall_clock,
        )
        max_bytes = int(settings.batches.max_file_mib * 2**20)
        files = FilePages(self._database, self._folder, max_bytes=max_bytes, wall_clock=wall_clock)
        batches = BatchPages(self._database, wake=self._worker.wake, wall_clock=wall_clock)
        self.routes: list[BaseRoute] = [*files.routes(), *batches.routes()]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Open the folder and work on what is in it, beginning with what was not finished.

        Raises ServingError when the folder cannot be used.
        """
        self._make_folders()
        await self._database.open()
        working = asyncio.create_task(self._worker.work())
        try:
            yield self
        finally:
            working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await working
            await self._database.close()

    def _make_folders(self) -> None:
        try:
            for folder in (self._folder, self._folder / "files", self._folder / "uploads"):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or error
            raise ServingError(f"gateway.batches.folder: {self._folder} cannot be made: {reason}.") from error

    def _run(self, batch: Batch) -> Run:
        return Run(
            batch,
            database=self._database,
            folder=self._folder,
            answer=self._answer,
            slots=self._slots,
            most_at_once=self._settings.batches.concurrency,
            max_line_bytes=int(self._settings.max_body_mib * 2**20),
            wall_clock=self._wall_clock,
        )
