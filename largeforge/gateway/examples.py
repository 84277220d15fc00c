"""Requests with the expert that each belongs to, as routers learn from them and are judged by them.

A row is a request's body, with `expert`, and `headers` where rules look at them:

    {"prompt": "Where is my order?", "expert": "support"}
    {"messages": [{"role": "user", "content": "…"}], "tools": […], "headers": {"x-plan": "gold"}, "expert": "vision"}

An answer at the end of `messages` is left out, so that the rows an expert was trained on are rows of this kind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from largeforge.gateway.errors import ApiError
from largeforge.gateway.request import Request, parse

if TYPE_CHECKING:
    from largeforge.gateway.routing import Route, Routing
    from largeforge.recipe.schema import Topology

AT_ONCE = 16
"""Requests that are routed at one time, for routers that ask a server."""

Example = tuple[Request, str]


def example(row: Mapping[str, Any], *, expert: str = "") -> Example:
    """Return a row as a request and its expert; `expert` is that of rows that do not say it.

    Raises ValueError with the reason when the row is none.
    """
    named, headers = row.get("expert", expert), row.get("headers") or {}
    if not isinstance(named, str) or not named:
        raise ValueError("has no expert that it belongs to: give the row `expert`, or name its file by expert")
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise ValueError("has headers that are not text by name")
    body = {key: value for key, value in row.items() if key not in ("expert", "headers") and value is not None}
    if isinstance(body.get("prompt"), list) and all(isinstance(one, dict) for one in body["prompt"]):
        body["messages"] = body.pop("prompt")
    if "messages" in body:
        body.pop("prompt", None)
        body["messages"] = _asked(body["messages"])
    pairs = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    try:
        return parse(orjson.dumps(body), "chat" if "messages" in body else "completion", pairs), named
    except ApiError as error:
        raise ValueError(f"is no request: {error.message}") from None


async def routed(routing: Routing, requests: Sequence[Request], *, progress: Callable[[int, int], None]) -> list[Route]:
    """Return the route of each request, in their order; `progress` is told how many of how many are done."""
    routes: dict[int, Route] = {}
    places = iter(range(len(requests)))

    async def some() -> None:
        for place in places:
            routes[place] = await routing.route(requests[place])
            progress(len(routes), len(requests))

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    return [routes[place] for place in range(len(requests))]


def undivided(topology: Topology) -> Topology:
    """Return a topology in which everybody gets the expert that the router chose, and no variant of it."""
    plain = {
        name: expert.model_copy(update={"variants": {}, "shadow": None}) for name, expert in topology.experts.items()
    }
    return topology.model_copy(update={"experts": plain})


def _asked(messages: Any) -> Any:
    """Return messages up to the last that is not an answer."""
    if not isinstance(messages, list):
        return messages
    end = len(messages)
    while end > 1 and isinstance(messages[end - 1], dict) and messages[end - 1].get("role") == "assistant":
        end -= 1
    return messages[:end]
