"""Conversations of `from` and `value`, as ShareGPT and what descends from it write them."""

from __future__ import annotations

from typing import Any

from largeforge.data import tool_calls
from largeforge.data.faults import RowError, show
from largeforge.data.messages import Messages, normalise
from largeforge.errors import nearest

SPEAKERS = {
    "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "assistant": "assistant",
    "model": "assistant", "bot": "assistant", "system": "system", "tool": "tool", "observation": "tool",
    "function_response": "tool", "tool_response": "tool", "function_call": "call", "tool_call": "call",
}  # fmt: skip
"""Who speaks to the role; `call` is the assistant that calls tools, with JSON as its value."""


def turns(value: Any, key: str) -> Messages:
    """Return the messages of a conversation; turns of `role` and `content` are taken as they are.

    Raises RowError on the first thing that is wrong.
    """
    if not isinstance(value, list):
        raise RowError(f"{key} = {show(value)}: must be a list of turns")
    return normalise([_message(item, f"{key}[{index}]") for index, item in enumerate(value)], key)


def _message(item: Any, place: str) -> Any:
    if not isinstance(item, dict):
        raise RowError(f"{place} = {show(item)}: must be an object with from and value")
    if "role" in item and "from" not in item:
        return item
    speaker, content = item.get("from"), item.get("value")
    if not isinstance(speaker, str) or speaker not in SPEAKERS:
        close = nearest(speaker.lower(), SPEAKERS) if isinstance(speaker, str) else ""
        hint = f" Did you mean '{close}'?" if close else ""
        raise RowError(f"{place}.from = {show(speaker)}: must be human, gpt, system, tool or function_call.{hint}")
    role = SPEAKERS[speaker]
    if role == "call":
        calls = tool_calls.parsed(content, f"{place}.value") if isinstance(content, str) else content
        if not calls or not isinstance(calls, list | dict):
            raise RowError(f"{place}.value = {show(content)}: must be a call of a tool, or a list of calls")
        return {"role": "assistant", "content": "", "tool_calls": calls}
    return {**item, "role": role, "content": content}
