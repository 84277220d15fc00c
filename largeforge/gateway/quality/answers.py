"""What an answer says, from its bytes: a whole one, or the events of a stream."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

_DATA = b"data:"
_DONE = b"[DONE]"


@dataclass
class Choice:
    """One of the answers to a request."""

    text: str = ""
    tools: list[tuple[str, str]] = field(default_factory=list)
    """Names and arguments of the functions that it calls."""


def choices(body: bytes, *, is_stream: bool) -> list[Choice]:
    """Return the answers to a chat or a completion; none where it is no such answer, or one that broke off."""
    with suppress(orjson.JSONDecodeError, AttributeError, TypeError, KeyError, ValueError):
        return _streamed(body) if is_stream else [_whole(choice) for choice in orjson.loads(body)["choices"]]
    return []


def _whole(choice: dict[str, Any]) -> Choice:
    message = choice["message"] if "message" in choice else {"content": choice["text"]}
    calls = [call["function"] for call in message.get("tool_calls") or () if call.get("function")]
    return Choice(
        message.get("content") or "", [(call.get("name") or "", call.get("arguments") or "") for call in calls]
    )


def _streamed(body: bytes) -> list[Choice]:
    texts: dict[int, list[str]] = {}
    calls: dict[int, dict[int, list[str]]] = {}
    for line in body.split(b"\n"):
        if not line.startswith(_DATA) or (data := line[len(_DATA) :].strip()) == _DONE:
            continue
        event = orjson.loads(data)
        if "error" in event:
            return []
        for choice in event.get("choices") or ():
            index, delta = choice.get("index", 0), choice.get("delta") or {"content": choice.get("text")}
            texts.setdefault(index, []).append(delta.get("content") or "")
            for call in delta.get("tool_calls") or ():
                parts = calls.setdefault(index, {}).setdefault(call.get("index", 0), ["", ""])
                function = call.get("function") or {}
                parts[0] += function.get("name") or ""
                parts[1] += function.get("arguments") or ""
    return [
        Choice("".join(texts[index]), [(name, given) for name, given in calls.get(index, {}).values()])
        for index in sorted(texts)
    ]
