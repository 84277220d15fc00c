"""Check and normalise one list of chat messages.

    {"role", "content"}                                          each message
    {"role": "assistant", "content", "tool_calls": [...]}        content may be ""
    {"role": "tool", "content", "tool_call_id"?, "name"?}        content may be ""

Further keys of a message are dropped. What older data calls `function_call` and the role `function`
is brought to tool calls.
"""

from __future__ import annotations

from typing import Any

from largeforge.data import tool_calls
from largeforge.data.faults import RowError, show
from largeforge.errors import nearest

ROLES = ("system", "user", "assistant", "tool")

Messages = list[dict[str, Any]]


def normalise(value: Any, key: str) -> Messages:
    """Return the messages in `value`, which stands under `key` in its row.

    Raises RowError on the first thing that is wrong.
    """
    if not isinstance(value, list):
        raise RowError(f"{key} = {show(value)}: must be a list of messages")
    if not value:
        raise RowError(f"{key} is an empty list")
    messages = [_message(item, key, index) for index, item in enumerate(value)]
    known: set[str] | None = None
    for index, message in enumerate(messages):
        if message["role"] == "system" and index:
            rule = "a second system message" if messages[0]["role"] == "system" else "system must be the first message"
            raise RowError(f"{key}[{index}].role = 'system': {rule}")
        if len(message) > 2:
            known = _follow(message, f"{key}[{index}]", known)
    return messages


def text(value: Any, key: str) -> str:
    """Return `value` if it is text with something in it.

    Raises RowError otherwise.
    """
    if not isinstance(value, str):
        raise RowError(f"{key} = {show(value)}: must be a string")
    if not value:
        raise RowError(f"{key} is empty")
    if value.isspace():
        raise RowError(f"{key} = {show(value)}: only white space")
    if not value.isascii():
        _encode(value, key)
    return value


def _encode(value: str, key: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(value[error.start]):04x}"
        raise RowError(f"{key} has half of a surrogate pair, {half}, at character {error.start + 1}") from None


def _message(item: Any, key: str, index: int) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise RowError(f"{key}[{index}] = {show(item)}: must be an object with role and content")
    role, content = item.get("role"), item.get("content")
    if role == "function":
        role = "tool"
    if role not in ROLES:
        raise RowError(_bad_role(item, f"{key}[{index}]"))
    if role == "tool":
        return _tool_answer(item, f"{key}[{index}]")
    if len(item) > 2 or content is None:
        for name in ("tool_calls", "function_call"):
            if item.get(name):
                return _with_calls(item, name, f"{key}[{index}]")
    if content is None and "content" not in item:
        raise RowError(f"{key}[{index}].content is missing")
    return {"role": role, "content": text(content, f"{key}[{index}].content")}


def _with_calls(item: dict[str, Any], name: str, place: str) -> dict[str, Any]:
    if item["role"] != "assistant":
        raise RowError(f"{place}.{name} = {show(item[name])}: only the assistant calls tools")
    found = tool_calls.calls(item[name], f"{place}.{name}")
    return {"role": "assistant", "content": _or_nothing(item.get("content"), place), "tool_calls": found}


def _tool_answer(item: dict[str, Any], place: str) -> dict[str, Any]:
    if item.get("content") is None and "content" not in item:
        raise RowError(f"{place}.content is missing")
    message = {"role": "tool", "content": _or_nothing(item["content"], place, allowed=("",))}
    for name in ("tool_call_id", "name"):
        if item.get(name) is not None:
            message[name] = text(item[name], f"{place}.{name}")
    return message


def _or_nothing(content: Any, place: str, *, allowed: tuple[Any, ...] = ("", None)) -> str:
    """Return text that may be absent: beside tool calls, and of a tool that answers nothing."""
    return "" if content in allowed else text(content, f"{place}.content")


def _follow(message: dict[str, Any], place: str, known: set[str] | None) -> set[str] | None:
    """Return the ids of the calls so far; None as long as no call has one.

    Raises RowError for the answer to a call that was not made.
    """
    if "tool_calls" in message:
        return (known or set()) | {call["id"] for call in message["tool_calls"] if "id" in call} or None
    answered = message.get("tool_call_id")
    if answered is not None and known is not None and answered not in known:
        raise RowError(f"{place}.tool_call_id = {show(answered)}: no earlier call has this id")
    return known


def _bad_role(item: dict[str, Any], place: str) -> str:
    role = item.get("role")
    if role is None:
        hint = "; from and value are role and content here" if "from" in item else ""
        return f"{place}.role is missing{hint}"
    close = nearest(role.lower(), ROLES) if isinstance(role, str) else ""
    hint = f" Did you mean '{close}'?" if close else ""
    return f"{place}.role = {show(role)}: must be one of {', '.join(ROLES)}.{hint}"
