"""Errors that the gateway answers with, in the shape that OpenAI's clients understand.

The caller's mistakes are 4xx and `invalid_request_error`; a failing expert is 502, 503 or 504
and `server_error`. An answer of an upstream below 500 is passed on and never comes here.
"""

from __future__ import annotations

import math
from typing import Any, NoReturn

from largeforge.errors import LargeForgeError


class ApiError(LargeForgeError):
    """An answer that is an error: status, message, and which parameter of the request is meant."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ):
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s

    def body(self) -> dict[str, Any]:
        """Return the JSON body."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers that belong to the error."""
        if self.retry_after_s is None:
            return []
        return [(b"retry-after", b"%d" % max(1, math.ceil(self.retry_after_s)))]


def internal_error(request_id: str) -> ApiError:
    """Return the error for what should not have happened; the log says what did."""
    return ApiError(500, f"Internal error; the log has more under {request_id}.", code="internal")


def bad_request(message: str, param: str | None = None, code: str = "invalid_value") -> NoReturn:
    """Raise the error for a request that cannot be understood."""
    raise ApiError(400, message, param=param, code=code)
