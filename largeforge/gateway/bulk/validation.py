"""Look at each line of a batch's file before any is answered: what is wrong, in which line, and what is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from largeforge.gateway.bulk.batches import Fault
from largeforge.gateway.bulk.lines import Line
from largeforge.gateway.errors import ApiError
from largeforge.gateway.kinds import PATHS
from largeforge.gateway.request import parse
from largeforge.gateway.request_checks import json_type

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ENDPOINTS = tuple(path for path in PATHS if path.startswith("/v1/"))
"""What batches may ask for."""
MOST_LINES = 50_000
"""Most requests in a file, as in OpenAI's API."""
MOST_FAULTS = 100
"""Faults that are listed of one file; after these the rest is not looked at."""
LONGEST_ID = 512


def look(path: Path, *, endpoint: str, max_line_bytes: int) -> Iterator[Line | Fault]:
    """Yield each line of a file that holds a request, or what is wrong with it; empty lines are none."""
    checker = _Checker(endpoint)
    num_requests = num_faults = 0
    with path.open("rb") as file:
        for number, (offset, raw) in enumerate(_split(file, max_line_bytes), start=1):
            if not raw.strip():
                continue
            num_requests += 1
            if num_requests > MOST_LINES:
                yield Fault("too_many_requests", f"The file has more than {MOST_LINES} requests.", number)
                return
            is_too_long = len(raw) > max_line_bytes
            found = _too_long(number, max_line_bytes) if is_too_long else checker.line(number, offset, raw)
            yield found
            num_faults += isinstance(found, Fault)
            if num_faults == MOST_FAULTS:
                yield Fault("too_many_faults", f"The first {MOST_FAULTS} faults are listed; there may be more.", number)
                return
    if not num_requests:
        yield Fault("empty_file", "The file has no requests: each line must be the JSON of one.")


def request_of(raw: bytes) -> bytes:
    """Return the body of the request that a valid line holds."""
    return orjson.dumps(orjson.loads(raw)["body"])


class _Checker:
    def __init__(self, endpoint: str):
        self._endpoint = endpoint
        self._kind = PATHS[endpoint]
        self._seen: dict[str, int] = {}

    def line(self, number: int, offset: int, raw: bytes) -> Line | Fault:
        """Return a line, or what is wrong with it."""
        try:
            custom_id = self._custom_id(_object(raw), number)
        except ApiError as error:
            return Fault(error.code or "invalid_request", error.message, number, error.param)
        return Line(number, custom_id, offset, len(raw))

    def _custom_id(self, request: dict[str, Any], number: int) -> str:
        custom_id = request.get("custom_id")
        if not isinstance(custom_id, str) or not 0 < len(custom_id) <= LONGEST_ID:
            rule = f"must be a text of 1 to {LONGEST_ID} characters"
            raise _fault(f"'custom_id' {rule}, not {_given(request, 'custom_id')}.", "custom_id", "invalid_custom_id")
        first = self._seen.setdefault(custom_id, number)
        if first != number:
            raise _fault(f"'custom_id' is the same as in line {first}.", "custom_id", "duplicate_custom_id")
        if request.get("method") != "POST":
            raise _fault(f"'method' must be \"POST\", not {_given(request, 'method')}.", "method", "invalid_method")
        if request.get("url") != self._endpoint:
            rule = f'must be the endpoint of the batch, "{self._endpoint}"'
            raise _fault(f"'url' {rule}, not {_given(request, 'url')}.", "url", "mismatched_url")
        self._check_body(request)
        return custom_id

    def _check_body(self, request: dict[str, Any]) -> None:
        body = request.get("body")
        if not isinstance(body, dict):
            raise _fault(f"'body' must be an object, not {_given(request, 'body')}.", "body", "invalid_body")
        if body.get("stream"):
            raise _fault("'stream' must not be true: answers of batches are files.", "body.stream", "invalid_value")
        try:
            parse(orjson.dumps(body), self._kind)
        except ApiError as error:
            param = f"body.{error.param}" if error.param else "body"
            raise _fault(error.message, param, error.code or "invalid_request") from None


def _split(file: Any, max_line_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield each line with its offset; one that is too long is cut, one byte over the limit."""
    offset = 0
    while raw := file.readline(max_line_bytes + 1):
        yield offset, raw.rstrip(b"\n")
        offset += len(raw)
        while raw and not raw.endswith(b"\n"):
            raw = file.readline(max_line_bytes + 1)
            offset += len(raw)


def _object(raw: bytes) -> dict[str, Any]:
    try:
        request = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise _fault(f"The line is not valid JSON: {error.msg} (column {error.colno}).", None, "invalid_json") from None
    if not isinstance(request, dict):
        raise _fault(f"The line must be a JSON object, not {json_type(request)}.", None, "invalid_json")
    return request


def _too_long(number: int, max_line_bytes: int) -> Fault:
    return Fault("request_too_large", f"The line is larger than {max_line_bytes / 2**20:g} MiB.", number)


def _given(request: dict[str, Any], key: str) -> str:
    """Return what a line has for a key, in words that repeat none of its content but short texts."""
    if key not in request:
        return "missing"
    value = request[key]
    return f'"{value[:40]}"' if isinstance(value, str) else json_type(value)


def _fault(message: str, param: str | None, code: str) -> ApiError:
    return ApiError(400, message, param=param, code=code)
