"""Read a request for an expert from bytes: just enough to route it, the rest is the upstream's to judge.

One JSON parse and no copies; what is valid here may still be refused by vLLM, whose 4xx answer
reaches the client unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from largeforge.gateway import request_checks
from largeforge.gateway.errors import ApiError, bad_request
from largeforge.gateway.request_checks import json_type

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Receive, Scope

    from largeforge.gateway.kinds import Kind

MAX_DEPTH = 100
"""Deepest nesting of lists and objects; more would exhaust the recursion limit of the upstream."""


class ClientGone(Exception):
    """The client closed the connection before its answer was finished."""


AUTO = "auto"
"""The model name that asks the router to choose."""

_TEXTS: dict[Kind, tuple[str, ...]] = {
    "chat": (),
    "completion": ("prompt",),
    "embedding": ("input",),
    "rerank": ("query",),
    "score": ("text_1", "queries", "data_1"),
}


@dataclass(eq=False)
class Request:
    """A request that can be routed: its bytes, its parsed JSON, and the model that it asks for."""

    kind: Kind
    model: str
    payload: dict[str, Any]
    body: bytes
    headers: Sequence[tuple[bytes, bytes]] = ()
    """As ASGI has them: names in lower case."""

    _text: str | None = None

    @property
    def text(self) -> str:
        """The last user message of a chat, the prompt of a completion, or what is embedded or compared; empty when
        there is no text."""
        if self._text is None:
            self._text = self._find_text()
        return self._text

    def _find_text(self) -> str:
        payload = self.payload
        for message in reversed(payload["messages"] if self.kind == "chat" else ()):
            if message.get("role") == "user":
                return _content_text(message.get("content"))
        names = _TEXTS[self.kind]
        return next((_content_text(payload[name]) for name in names if name in payload), "")

    def body_for(self, served_model: str) -> bytes:
        """Return the body for an upstream that knows the model as `served_model`: the bytes as they
        came when the name is already right, otherwise the same JSON with the name replaced."""
        if self.payload.get("model") == served_model:
            return self.body
        return orjson.dumps({**self.payload, "model": served_model})


def parse(body: bytes, kind: Kind, headers: Sequence[tuple[bytes, bytes]] = ()) -> Request:
    """Parse the body of a request; its headers are kept for routers.

    Raises ApiError (400) that names the parameter when it is not one.
    """
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        bad_request(f"The body is not valid JSON: {_position(error)}.", code="invalid_json")
    if not isinstance(payload, dict):
        bad_request(f"The body must be a JSON object, not {json_type(payload)}.", code="invalid_json")
    if _has_many(body, b"[") + _has_many(body, b"{") > MAX_DEPTH and _is_deeper(payload, MAX_DEPTH):
        bad_request(f"The body is nested more than {MAX_DEPTH} levels deep.", code="invalid_json")
    model = payload.get("model", AUTO)
    if not isinstance(model, str):
        bad_request(f"'model' must be a string, not {json_type(model)}.", "model", "invalid_type")
    request_checks.check(payload, kind)
    return Request(kind, model, payload, body, headers)


async def read_body(scope: Scope, receive: Receive, max_bytes: int) -> bytes:
    """Return the whole body of an ASGI request.

    Raises ApiError (413) as soon as it is known to be too large, and ClientGone.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > max_bytes:
            raise _too_large(max_bytes)
    whole = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        if len(whole) + len(chunk) > max_bytes:
            raise _too_large(max_bytes)
        is_last = not message.get("more_body", False)
        if is_last and not whole:
            return chunk
        whole += chunk  # and no list: a body that comes byte by byte would take forty times its size
        if is_last:
            return bytes(whole)


def _content_text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [part.get("text") if isinstance(part, dict) else part for part in content]
    return "\n".join(part for part in parts if isinstance(part, str))


def _has_many(body: bytes, character: bytes) -> int:
    """Return how often a character occurs, counted only as far as it matters: few are found faster than all counted."""
    found, place = 0, body.find(character)
    while place >= 0 and found <= MAX_DEPTH:
        found += 1
        place = body.find(character, place + 1)
    return found


def _is_deeper(value: Any, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def _position(error: orjson.JSONDecodeError) -> str:
    """Return where and why, without the text itself, which must not reach logs."""
    return f"{error.msg} (line {error.lineno}, column {error.colno})"


def _too_large(max_bytes: int) -> ApiError:
    limit = f"{max_bytes / 2**20:g} MiB"
    return ApiError(413, f"The body is larger than {limit}, the limit of this gateway.", code="request_too_large")
