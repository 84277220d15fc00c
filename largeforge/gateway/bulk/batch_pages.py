"""`/v1/batches`: create, list, look at and cancel batches."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from starlette.routing import Route

from largeforge.gateway.bulk import batches, files
from largeforge.gateway.bulk.file_pages import LIFETIMES_S
from largeforge.gateway.bulk.validation import ENDPOINTS
from largeforge.gateway.endpoint import Endpoint, answer, listing, not_found, number
from largeforge.gateway.errors import ApiError, bad_request
from largeforge.gateway.request import read_body
from largeforge.gateway.request_checks import is_whole, json_type

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from largeforge.gateway.bulk.batches import Batch
    from largeforge.gateway.bulk.database import Database

MOST_LISTED = 100
MOST_UNFINISHED = 1000
"""Batches that may wait or run at once."""
MOST_BODY_BYTES = 65_536

_WINDOW = re.compile(r"([1-9][0-9]{0,3})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_KEPT_HEADERS = b"x-largeforge-"
"""Headers that go with each line; credentials are not among them, for they would lie on the disk."""


@dataclass(frozen=True)
class _Order:
    """What a client asks for, understood."""

    endpoint: str
    input_file_id: str
    completion_window: str
    window_s: int
    metadata: dict[str, str] | None
    output_seconds: int | None


class BatchPages:
    """The endpoints of batches; `wake` tells the worker that something has changed."""

    def __init__(self, database: Database, *, wake: Callable[[], None], wall_clock: Callable[[], float]):
        self._database = database
        self._wake = wake
        self._wall_clock = wall_clock

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        pages = {
            "/v1/batches": Endpoint(GET=self._list, POST=self._create),
            "/v1/batches/{batch_id}": Endpoint(GET=self._show),
            "/v1/batches/{batch_id}/cancel": Endpoint(POST=self._cancel),
        }
        return [Route(path, page, methods=page.methods) for path, page in pages.items()]

    async def _create(self, request: Request) -> Response:
        order = _order(await read_body(request.scope, request.receive, MOST_BODY_BYTES))
        headers = [
            (name.decode(), value.decode("latin-1"))
            for name, value in request.scope["headers"]
            if name.startswith(_KEPT_HEADERS)
        ]

        def create(connection: sqlite3.Connection) -> Batch:
            file = files.get(connection, order.input_file_id)
            if file is None:
                raise not_found("file", "input_file_id", "file_not_found")
            if file.purpose != "batch":
                message = f"{file.id} has the purpose '{file.purpose}', but 'batch' is needed."
                raise ApiError(409, message, param="input_file_id", code="invalid_purpose")
            if batches.num_unfinished(connection) >= MOST_UNFINISHED:
                message = f"{MOST_UNFINISHED} batches are not finished; wait for them, or cancel some."
                raise ApiError(429, message, code="too_many_batches", retry_after_s=60)
            return batches.create(connection, **vars(order), headers=headers, now=int(self._wall_clock()))

        batch = await self._database.do(create)
        self._wake()
        return answer(batch.as_json())

    async def _list(self, request: Request) -> Response:
        limit = number(request, "limit", default=20, most=MOST_LISTED)
        after = request.query_params.get("after", "")
        page = await self._database.do(lambda connection: batches.page(connection, after=after, limit=limit))
        if page is None:
            raise not_found("batch", "after", "batch_not_found")
        return listing([batch.as_json() for batch in page[0]], has_more=page[1])

    async def _show(self, request: Request) -> Response:
        batch_id: str = request.path_params["batch_id"]
        batch = await self._database.do(lambda connection: batches.get(connection, batch_id))
        if batch is None:
            raise not_found("batch", "batch_id", "batch_not_found")
        return answer(batch.as_json())

    async def _cancel(self, request: Request) -> Response:
        batch_id: str = request.path_params["batch_id"]
        now = int(self._wall_clock())
        batch = await self._database.do(lambda connection: batches.cancel(connection, batch_id, now=now))
        if batch is None:
            raise not_found("batch", "batch_id", "batch_not_found")
        if batch.status not in ("cancelling", "cancelled"):
            raise ApiError(409, f"The batch is {batch.status}; it cannot be cancelled.", code="batch_ended")
        self._wake()
        return answer(batch.as_json())


def _order(body: bytes) -> _Order:
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        bad_request(f"The body is not valid JSON: {error.msg} (column {error.colno}).", code="invalid_json")
    if not isinstance(given, dict):
        bad_request(f"The body must be a JSON object, not {json_type(given)}.", code="invalid_json")
    window = _text(given, "completion_window")
    matched = _WINDOW.fullmatch(window)
    if matched is None:
        bad_request("'completion_window' must be a time such as '24h', '30m' or '7d'.", "completion_window")
    endpoint = _text(given, "endpoint")
    if endpoint not in ENDPOINTS:
        bad_request(f"'endpoint' must be one of: {', '.join(ENDPOINTS)}.", "endpoint")
    return _Order(
        endpoint=endpoint,
        input_file_id=_text(given, "input_file_id"),
        completion_window=window,
        window_s=int(matched[1]) * _SECONDS[matched[2]],
        metadata=_metadata(given.get("metadata")),
        output_seconds=_output_seconds(given.get("output_expires_after")),
    )


def _text(given: dict[str, Any], name: str) -> str:
    if name not in given:
        bad_request(f"'{name}' is missing.", name, "missing_required_parameter")
    value = given[name]
    if not isinstance(value, str):
        bad_request(f"'{name}' must be a string, not {json_type(value)}.", name, "invalid_type")
    return value


def _metadata(given: Any) -> dict[str, str] | None:
    if given is None:
        return None
    if not isinstance(given, dict):
        bad_request(f"'metadata' must be an object, not {json_type(given)}.", "metadata", "invalid_type")
    if len(given) > 16:
        bad_request("'metadata' must have no more than 16 entries.", "metadata")
    for key, value in given.items():
        if len(key) > 64 or not isinstance(value, str) or len(value) > 512:
            bad_request("'metadata' must have keys of up to 64 characters and texts of up to 512.", "metadata")
    return given


def _output_seconds(given: Any) -> int | None:
    if given is None:
        return None
    name = "output_expires_after"
    if not isinstance(given, dict) or given.get("anchor") != "created_at":
        bad_request(f"'{name}' must be an object whose 'anchor' is 'created_at'.", name)
    seconds = given.get("seconds")
    shortest, longest = LIFETIMES_S
    if not is_whole(seconds) or not shortest <= seconds <= longest:
        bad_request(f"'{name}.seconds' must be from {shortest} to {longest}.", f"{name}.seconds")
    return int(seconds)
