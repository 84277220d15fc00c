"""`POST /v1/route`: where a request would go and why, without asking any expert to answer it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from largeforge.gateway.errors import ApiError, bad_request
from largeforge.gateway.link import AsgiLink
from largeforge.gateway.proxy import CLIENT_CLOSED
from largeforge.gateway.request import ClientGone, Request, parse
from largeforge.gateway.respond import Outbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive, Scope, Send

    from largeforge.gateway.link import Headers
    from largeforge.gateway.routing import Routing

PATH = "/v1/route"


class Explainer:
    """The ASGI endpoint; its body is that of a chat or of a completion."""

    def __init__(
        self,
        routing: Callable[[], Routing],
        *,
        asks: Callable[[], bool],
        max_body_mib: float,
        clock: Callable[[], float],
    ):
        """Take what returns the routing that is in force, and whether it asks routers."""
        self._routing = routing
        self._asks = asks
        self._max_bytes = int(max_body_mib * 2**20)
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one question."""
        link = AsgiLink(scope, receive, send)
        out, exchange = Outbox(link, self._clock), link.exchange
        try:
            request = _parse(await link.body(self._max_bytes), link.headers)
            explained = await self._routing().explain(request, asks=self._asks())
            exchange.expert = explained["expert"]
            await out.whole(200, b"application/json", orjson.dumps({"object": "route", **explained}), ())
        except ApiError as error:
            await out.error(error)
        except ClientGone:
            out.status = CLIENT_CLOSED
        exchange.status = out.status


def _parse(body: bytes, headers: Headers) -> Request:
    """Return the request that is asked about: a chat when it has messages, else a completion."""
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        payload = None  # the parser of requests says what is wrong
    if isinstance(payload, dict) and not {"messages", "prompt"} & payload.keys():
        bad_request("'messages' or 'prompt' is missing.", "messages", "missing_required_parameter")
    is_completion = isinstance(payload, dict) and "messages" not in payload
    return parse(body, "completion" if is_completion else "chat", headers)
