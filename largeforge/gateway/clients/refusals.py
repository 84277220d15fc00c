"""Answers that no application made: the last ones of connections that go wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from largeforge.gateway import heads

if TYPE_CHECKING:
    from largeforge.gateway.errors import ApiError

REFUSALS = {
    400: ("This is no HTTP/1.1 request.", "no_http"),
    408: ("The request did not come in time.", "request_timeout"),
    431: (f"The head is larger than {heads.MOST_BYTES >> 10} KiB.", "head_too_large"),
}
"""Message and code by status."""


def refusal(error: ApiError) -> bytes:
    """Return an error as a whole answer that ends its connection."""
    body = orjson.dumps(error.body())
    headers = [(b"content-type", b"application/json"), *error.headers(), (b"content-length", b"%d" % len(body))]
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"".join((STATUS_LINE[error.status], lines, b"connection: close\r\n\r\n", body))
