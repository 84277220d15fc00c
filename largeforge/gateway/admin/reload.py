"""Serve another gateway file, or the same one as it is now, without dropping a request; a wrong one changes nothing."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from largeforge.artifacts import digest, write_json
from largeforge.errors import LargeForgeError, RecipeError
from largeforge.gateway import config
from largeforge.gateway.certificates import stamp
from largeforge.gateway.config import GatewayFile
from largeforge.gateway.errors import ApiError

if TYPE_CHECKING:
    from largeforge.gateway.admin.controls import Controls, Document
    from largeforge.gateway.certificates import Certificates
    from largeforge.gateway.live import Live
    from largeforge.gateway.notify import Told

logger = logging.getLogger(__name__)


class Reloading:
    """Replaces what a gateway serves.

    `path` is the file that it was started with, which keeps what is in force, so that a restart changes nothing.
    `shared` is the copy of it that workers of one gateway follow; None where there is one worker.
    """

    def __init__(
        self,
        live: Live,
        controls: Controls,
        *,
        path: Path | None = None,
        shared: Path | None = None,
        certificates: Certificates | None = None,
        told: Told,
    ):
        self._live, self._controls = live, controls
        self._path, self._shared = path, shared
        self._certificates, self._told = certificates, told
        self._stamp = stamp(live.now.file.gateway)
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._digest = digest_of(live.now.file)

    @property
    def digest(self) -> str:
        """Digest of what is in force."""
        return self._digest

    async def reread(self) -> str:
        """Serve the file as it is now; return its digest.

        Raises ApiError (400) with what is wrong with it; the old one stays in force then.
        """
        if self._path is None:
            raise ApiError(409, "This gateway was not started with a file.", code="no_file")
        self._told.reloading()
        try:
            file = config.read(self._path)
            return await self._uninterrupted(file, keep=False)
        except RecipeError as error:
            raise _refused(error) from error
        finally:
            self._told.ready()

    async def put(self, values: Any, *, expected: str = "") -> str:
        """Serve another file, given as plain data, and keep it; return its digest.

        Raises ApiError: 400 with what is wrong with it, 412 when `expected` is given and is not what is in force.
        """
        try:
            file = GatewayFile.model_validate(values)
        except ValidationError as error:
            raise _refused(RecipeError(config.problems(error))) from error
        self._told.reloading()
        try:
            return await self._uninterrupted(file, keep=True, expected=expected)
        finally:
            self._told.ready()

    def obey(self, document: Document) -> None:
        """Follow another worker to what it put in force."""
        if self._shared is not None and document.config and document.config != self._digest:
            self._begin(self._follow(self._shared))

    def look_at_certificates(self) -> None:
        """Read certificates again where another worker has done so."""
        if self._shared is not None and self._stamp != stamp(self._live.now.file.gateway):
            self._begin(self._follow(self._shared))

    def begin_reread(self) -> None:
        """Serve the file as it is now, soon, and log what is wrong with it; for a signal, which nobody waits for."""
        self._begin(self._reread_and_tell())

    async def stop(self) -> None:
        """End what is still being done."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _reread_and_tell(self) -> None:
        try:
            logger.info("reloaded: %s is in force", (await self.reread())[:12])
        except LargeForgeError as error:
            logger.error("not reloaded, what is in force stays: %s", error)

    async def _follow(self, shared: Path) -> None:
        try:
            async with self._lock:
                file = config.read(shared)
                await self._take(file)
        except LargeForgeError as error:
            logger.error("what is in force stays: %s", error)

    async def _uninterrupted(self, file: GatewayFile, *, keep: bool, expected: str = "") -> str:
        """Replace what is served to the end, even when nobody waits for it any more."""
        return await asyncio.shield(self._begin(self._replace(file, keep, expected)))

    async def _replace(self, file: GatewayFile, keep: bool, expected: str) -> str:
        async with self._lock:
            if expected and expected != self._digest:
                raise _changed_meanwhile(self._digest, expected)
            try:
                await self._take(file)
            except LargeForgeError as error:
                raise _refused(error) from error

            def write(in_force: str) -> None:
                if expected and self._shared and in_force not in ("", expected):  # another worker was faster
                    raise _changed_meanwhile(in_force, expected)
                for path in filter(None, (self._path if keep else None, self._shared)):
                    write_json(path, file.model_dump(mode="json"), sort_keys=False)

            try:
                await self._controls.follow_config(self._digest, keep=write)
            except ApiError:
                assert self._shared is not None
                await self._take(config.read(self._shared))
                raise
            except OSError as error:
                message = f"It is in force, but was not kept, so a restart undoes it: {error.strerror or error}."
                raise ApiError(507, message, code="not_kept") from error
            return self._digest

    async def _take(self, file: GatewayFile) -> None:
        """Serve a file, and show the certificates that are there now; raises RecipeError when one of both cannot be."""
        self._stamp = stamp(file.gateway)
        read = self._certificates.read() if self._certificates else None
        await self._live.replace(file)
        if self._certificates and read:
            self._certificates.show(read)
        self._digest = digest_of(file)

    def _begin(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def digest_of(file: GatewayFile) -> str:
    """Return the digest of a gateway file: of what it says, not of how it is written."""
    return digest(file.model_dump(mode="json"))


def _changed_meanwhile(in_force: str, expected: str) -> ApiError:
    message = f"Meanwhile something else is in force: {in_force[:12]}, not {expected[:12]}. Look again."
    return ApiError(412, message, code="changed_meanwhile")


def _refused(error: LargeForgeError) -> ApiError:
    key = error.problems[0].key if isinstance(error, RecipeError) else None
    return ApiError(400, str(error), param=key, code="invalid_config")
