"""Read a completion request from bytes: just enough to route it, the rest is the upstream's to judge.

One JSON parse and no copies; what is valid here may still be refused by vLLM, whose 4xx answer
reaches the client unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import orjson

from largeforge.gateway.errors import ApiError, bad_request

if TYPE_CHECKING:
    from starlette.types import Receive, Scope

Kind = Literal["chat", "completion"]

MAX_DEPTH = 100
"""Deepest nesting of lists and objects; more would exhaust the recursion limit of the upstream."""


class ClientGone(Exception):
    """The client closed the connection before its answer was finished."""


AUTO = "auto"
"""The model name that asks the router to choose."""


@dataclass(frozen=True)
class Request:
    """A request that can be routed: its bytes, its parsed JSON, and the model that it asks for."""

    kind: Kind
    model: str
    payload: dict[str, Any]
    body: bytes

    @cached_property
    def text(self) -> str:
        """The last user message of a chat, or the prompt of a completion; empty when there is no text."""
        if self.kind == "completion":
            prompt = self.payload["prompt"]
            return prompt if isinstance(prompt, str) else _joined(prompt, separator="\n")
        for message in reversed(self.payload["messages"]):
            if message.get("role") == "user":
                return _content_text(message.get("content"))
        return ""

    def body_for(self, served_model: str) -> bytes:
        """Return the body for an upstream that knows the model as `served_model`: the bytes as they
        came when the name is already right, otherwise the same JSON with the name replaced."""
        if self.payload.get("model") == served_model:
            return self.body
        return orjson.dumps({**self.payload, "model": served_model})


def parse(body: bytes, kind: Kind) -> Request:
    """Parse the body of a request.

    Raises ApiError (400) that names the parameter when it is not one.
    """
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        bad_request(f"The body is not valid JSON: {_position(error)}.", code="invalid_json")
    if not isinstance(payload, dict):
        bad_request(f"The body must be a JSON object, not {_json_type(payload)}.", code="invalid_json")
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _is_deeper(payload, MAX_DEPTH):
        bad_request(f"The body is nested more than {MAX_DEPTH} levels deep.", code="invalid_json")
    model = payload.get("model", AUTO)
    if not isinstance(model, str):
        bad_request(f"'model' must be a string, not {_json_type(model)}.", "model", "invalid_type")
    (_check_messages if kind == "chat" else _check_prompt)(payload)
    return Request(kind, model, payload, body)


async def read_body(scope: Scope, receive: Receive, max_bytes: int) -> bytes:
    """Return the whole body of an ASGI request.

    Raises ApiError (413) as soon as it is known to be too large, and ClientGone.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > max_bytes:
            raise _too_large(max_bytes)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _check_messages(payload: dict[str, Any]) -> None:
    messages = payload.get("messages")
    if "messages" not in payload:
        bad_request("'messages' is missing.", "messages", "missing_required_parameter")
    if not isinstance(messages, list):
        bad_request(f"'messages' must be a list, not {_json_type(messages)}.", "messages", "invalid_type")
    if not messages:
        bad_request("'messages' is empty; there must be at least one message.", "messages", "empty_array")
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            given = _json_type(message)
            bad_request(f"'messages[{index}]' must be an object, not {given}.", f"messages[{index}]", "invalid_type")


def _check_prompt(payload: dict[str, Any]) -> None:
    if "prompt" not in payload:
        bad_request("'prompt' is missing.", "prompt", "missing_required_parameter")
    if not isinstance(payload["prompt"], str | list):
        given = _json_type(payload["prompt"])
        bad_request(f"'prompt' must be a string or a list, not {given}.", "prompt", "invalid_type")


def _content_text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return _joined([part.get("text") for part in content if isinstance(part, dict)], separator="\n")


def _joined(parts: list[Any], *, separator: str) -> str:
    return separator.join(part for part in parts if isinstance(part, str))


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


def _json_type(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    return names[type(value)]
