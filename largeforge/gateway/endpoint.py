"""An ASGI endpoint of several methods whose mistakes are answered in OpenAI's shape, and reading its parameters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson
from starlette.responses import Response

from largeforge.gateway.errors import ApiError, bad_request
from largeforge.gateway.request import ClientGone

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    Handler = Callable[[Request], Awaitable[Response]]

_NUMBER = re.compile(r"[0-9]{1,9}")


class Endpoint:
    """One path: a handler for each of its methods."""

    def __init__(self, **handlers: Handler):
        self._handlers: Mapping[str, Handler] = handlers
        self.methods = list(handlers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        from starlette.requests import Request

        handler = self._handlers["GET" if scope["method"] == "HEAD" else scope["method"]]
        try:
            response = await handler(Request(scope, receive))
        except ApiError as error:
            response = Response(orjson.dumps(error.body()), error.status, media_type="application/json")
            response.raw_headers.extend(error.headers())
        except ClientGone:
            return
        await response(scope, receive, send)


def answer(content: Any) -> Response:
    """Return an answer that is JSON."""
    return Response(orjson.dumps(content), media_type="application/json")


def listing(items: list[dict[str, Any]], *, has_more: bool) -> Response:
    """Return one page of a list, as OpenAI's clients turn them."""
    ids = [item["id"] for item in items] or [None]
    return answer({"object": "list", "data": items, "first_id": ids[0], "last_id": ids[-1], "has_more": has_more})


def number(request: Request, name: str, *, default: int, most: int) -> int:
    """Return a parameter of the address that is a number of at least 1."""
    given = request.query_params.get(name)
    if given is None:
        return default
    if not _NUMBER.fullmatch(given) or not 1 <= int(given) <= most:
        bad_request(f"'{name}' must be a whole number from 1 to {most}.", name)
    return int(given)


def choice(request: Request, name: str, *, allowed: tuple[str, ...]) -> str:
    """Return a parameter of the address that is one of some words, empty when it is not there."""
    given = request.query_params.get(name, "")
    if name in request.query_params and given not in allowed:
        bad_request(f"'{name}' must be one of: {', '.join(allowed)}.", name)
    return given


def not_found(what: str, param: str, code: str) -> ApiError:
    """Return the error for something that is not there."""
    return ApiError(404, f"There is no such {what}.", param=param, code=code)
