"""`/v1/files`: upload, list, look at, download and delete files."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote

from starlette.responses import StreamingResponse
from starlette.routing import Route

from largeforge.gateway.bulk import batches, files
from largeforge.gateway.bulk.files import File
from largeforge.gateway.bulk.uploads import receive_form
from largeforge.gateway.endpoint import Endpoint, answer, choice, listing, not_found, number
from largeforge.gateway.errors import ApiError, bad_request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from largeforge.gateway.bulk.database import Database
    from largeforge.gateway.bulk.uploads import Form

PURPOSES = ("batch", "batch_output")
MOST_LISTED = 10_000
PIECE_BYTES = 2**18
LIFETIMES_S = (3600, 2_592_000)
"""Shortest and longest time that a client may ask a file to be kept, as in OpenAI's API."""


class FilePages:
    """The endpoints of files."""

    def __init__(self, database: Database, folder: Path, *, max_bytes: int, wall_clock: Callable[[], float]):
        self._database = database
        self._folder = folder
        self._max_bytes = max_bytes
        self._wall_clock = wall_clock

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        pages = {
            "/v1/files": Endpoint(GET=self._list, POST=self._upload),
            "/v1/files/{file_id}": Endpoint(GET=self._show, DELETE=self._delete),
            "/v1/files/{file_id}/content": Endpoint(GET=self._download),
        }
        return [Route(path, page, methods=page.methods) for path, page in pages.items()]

    async def _upload(self, request: Request) -> Response:
        path = self._folder / "uploads" / secrets.token_hex(12)
        try:
            form = await receive_form(request.scope, request.receive, path, max_bytes=self._max_bytes)
            file = self._file(form)
            await asyncio.to_thread(_move, path, self._folder / "files" / file.id)
        finally:
            path.unlink(missing_ok=True)
        await self._database.do(lambda connection: files.add(connection, file))
        return answer(file.as_json())

    async def _list(self, request: Request) -> Response:
        limit = number(request, "limit", default=MOST_LISTED, most=MOST_LISTED)
        order = choice(request, "order", allowed=("asc", "desc"))
        after, purpose = request.query_params.get("after", ""), request.query_params.get("purpose", "")
        page = await self._database.do(
            lambda connection: files.page(
                connection, after=after, limit=limit, purpose=purpose, newest_first=order != "asc"
            )
        )
        if page is None:
            raise not_found("file", "after", "file_not_found")
        return listing([file.as_json() for file in page[0]], has_more=page[1])

    async def _show(self, request: Request) -> Response:
        return answer((await self._find(request)).as_json())

    async def _download(self, request: Request) -> Response:
        file = await self._find(request)
        headers = {
            "content-disposition": f"attachment; filename*=UTF-8''{quote(file.filename, safe='')}",
            "x-content-type-options": "nosniff",
        }
        try:
            content = await asyncio.to_thread((self._folder / "files" / file.id).open, "rb")
        except FileNotFoundError:
            raise not_found("file", "file_id", "file_not_found") from None
        headers["content-length"] = str(os.fstat(content.fileno()).st_size)
        return StreamingResponse(_pieces(content), headers=headers, media_type="application/octet-stream")

    async def _delete(self, request: Request) -> Response:
        file = await self._find(request)
        if readers := await self._database.do(lambda connection: batches.readers(connection, file.id)):
            message = f"The file is being answered by {', '.join(readers)}; cancel that first."
            raise ApiError(409, message, param="file_id", code="file_in_use")
        await self._database.do(lambda connection: files.remove(connection, file.id))
        with contextlib.suppress(FileNotFoundError):
            await asyncio.to_thread(os.unlink, self._folder / "files" / file.id)
        return answer({"id": file.id, "object": "file", "deleted": True})

    async def _find(self, request: Request) -> File:
        file_id: str = request.path_params["file_id"]
        file = None
        if files.is_id(file_id):
            file = await self._database.do(lambda connection: files.get(connection, file_id))
        if file is None:
            raise not_found("file", "file_id", "file_not_found")
        return file

    def _file(self, form: Form) -> File:
        now = int(self._wall_clock())
        purpose = form.fields.get("purpose")
        if purpose is None:
            bad_request("'purpose' is missing; it must be 'batch'.", "purpose", "missing_required_parameter")
        if purpose != "batch":
            bad_request("'purpose' must be 'batch': this gateway has no other use for files.", "purpose")
        assert form.filename is not None
        lifetime_s = _lifetime_s(form.fields)
        expires_at = None if lifetime_s is None else now + lifetime_s
        return File(files.new_id(), "batch", form.filename, form.num_bytes, now, expires_at)


def _lifetime_s(fields: dict[str, str]) -> int | None:
    anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    if anchor not in (None, "created_at"):
        bad_request("'expires_after[anchor]' must be 'created_at'.", "expires_after[anchor]")
    if seconds is None:
        return None
    shortest, longest = LIFETIMES_S
    if not (seconds.isascii() and seconds.isdigit() and shortest <= int(seconds[:10]) <= longest):
        bad_request(f"'expires_after[seconds]' must be from {shortest} to {longest}.", "expires_after[seconds]")
    return int(seconds)


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    with file:
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            yield piece


def _move(source: Path, target: Path) -> None:
    """Put a file in its place, so that it is all there even after the power failed."""
    with source.open("rb") as file:
        os.fsync(file.fileno())
    source.rename(target)
