"""What a request of each kind must have, so that it can be routed and its faults be named.

Only what the gateway itself relies on, or what clients most often get wrong; everything else is the expert's to judge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

from largeforge.gateway.errors import bad_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from largeforge.gateway.kinds import Kind

PAIRS = (("text_1", "text_2"), ("queries", "documents"), ("queries", "items"), ("data_1", "data_2"))
"""Names that vLLM knows for the two sides of a score."""

_JSON_TYPES = {
    bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object",
}  # fmt: skip


def check(payload: dict[str, Any], kind: Kind) -> None:
    """Raise ApiError (400) that names the parameter when a body is not a request of its kind."""
    _CHECKS[kind](payload)


def json_type(value: Any) -> str:
    """Return the name of a JSON value's type, with its article."""
    return "null" if value is None else _JSON_TYPES[type(value)]


def is_whole(value: Any) -> TypeGuard[float]:
    """Return whether a JSON value is a whole number, however it is written."""
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())


def _chat(payload: dict[str, Any]) -> None:
    messages = _required(payload, "messages", list)
    _not_empty(messages, "messages", "message")
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            _wrong_type(f"messages[{index}]", message, "an object")


def _completion(payload: dict[str, Any]) -> None:
    _required(payload, "prompt", str, list)


def _embedding(payload: dict[str, Any]) -> None:
    if "messages" in payload and "input" not in payload:
        _chat_or_chats(payload)
        return
    given = _required(payload, "input", str, list)
    if isinstance(given, list):
        _not_empty(given, "input", "text")
        for index, item in enumerate(given):
            if isinstance(item, bool) or not isinstance(item, str | int | list | dict):
                _wrong_type(f"input[{index}]", item, "a string, or tokens")


def _chat_or_chats(payload: dict[str, Any]) -> None:
    """Check the conversations of an embedding, one or a list of them."""
    messages = _required(payload, "messages", list)
    _not_empty(messages, "messages", "message")
    for index, message in enumerate(messages):
        if not isinstance(message, dict | list):
            _wrong_type(f"messages[{index}]", message, "an object")


def _rerank(payload: dict[str, Any]) -> None:
    _required(payload, "query", str, dict)
    documents = _required(payload, "documents", str, list, dict)
    _texts(documents, "documents")
    top_n = payload.get("top_n", 0)
    if not is_whole(top_n):
        _wrong_type("top_n", top_n, "a whole number")
    if top_n < 0:
        bad_request(f"'top_n' must be 0 or more, not {top_n}.", "top_n")


def _score(payload: dict[str, Any]) -> None:
    pair = next((pair for pair in PAIRS if all(name in payload for name in pair)), None)
    if pair is None:
        half = next((pair for pair in PAIRS if any(name in payload for name in pair)), PAIRS[0])
        name = half[0] if half[0] not in payload else half[1]
        bad_request(f"'{name}' is missing.", name, "missing_required_parameter")
    for name in pair:
        _texts(_required(payload, name, str, list, dict), name)


def _texts(value: Any, name: str) -> None:
    if not isinstance(value, list):
        return
    _not_empty(value, name, "text")
    for index, item in enumerate(value):
        if not isinstance(item, str | dict):
            _wrong_type(f"{name}[{index}]", item, "a string or an object")


def _required(payload: dict[str, Any], name: str, *types: type) -> Any:
    if name not in payload:
        bad_request(f"'{name}' is missing.", name, "missing_required_parameter")
    if not isinstance(payload[name], types):
        _wrong_type(name, payload[name], " or ".join(_JSON_TYPES[item] for item in types))
    return payload[name]


def _not_empty(value: list[Any], name: str, item: str) -> None:
    if not value:
        bad_request(f"'{name}' is empty; there must be at least one {item}.", name, "empty_array")


def _wrong_type(name: str, value: Any, rule: str) -> None:
    bad_request(f"'{name}' must be {rule}, not {json_type(value)}.", name, "invalid_type")


_CHECKS: dict[Kind, Callable[[dict[str, Any]], None]] = {
    "chat": _chat,
    "completion": _completion,
    "embedding": _embedding,
    "rerank": _rerank,
    "score": _score,
}
