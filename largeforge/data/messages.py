"""Check and normalise one list of chat messages to `{"role", "content"}` each.

Tool calls are not supported: a message that has one is refused, since training on it without
the call would teach something else.
"""

from __future__ import annotations

import reprlib
from typing import Any

from largeforge.errors import nearest

ROLES = ("system", "user", "assistant", "tool")
CALLS = ("tool_calls", "function_call")

Messages = list[dict[str, str]]

SHOWN_CHARACTERS = 60
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = SHOWN_CHARACTERS - 10


class RowError(ValueError):
    """One row cannot be used; the message has the key, the value abbreviated, and the rule."""


def normalise(value: Any, key: str) -> Messages:
    """Return the messages in `value`, which stands under `key` in its row.

    Raises RowError on the first thing that is wrong.
    """
    if not isinstance(value, list):
        raise RowError(f"{key} = {show(value)}: must be a list of messages")
    if not value:
        raise RowError(f"{key} is an empty list")
    messages = [_message(item, key, index) for index, item in enumerate(value)]
    for index, message in enumerate(messages[1:], start=1):
        if message["role"] == "system":
            rule = "a second system message" if messages[0]["role"] == "system" else "system must be the first message"
            raise RowError(f"{key}[{index}].role = 'system': {rule}")
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


def show(value: Any) -> str:
    """Return `value` for an error message: at most 60 characters, control characters escaped."""
    shown = "null" if value is None else _REPR.repr(value)
    return shown if len(shown) <= SHOWN_CHARACTERS else shown[: SHOWN_CHARACTERS - 3] + "..."


def _encode(value: str, key: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(value[error.start]):04x}"
        raise RowError(f"{key} has half of a surrogate pair, {half}, at character {error.start + 1}") from None


def _message(item: Any, key: str, index: int) -> dict[str, str]:
    if not isinstance(item, dict):
        raise RowError(f"{key}[{index}] = {show(item)}: must be an object with role and content")
    role, content = item.get("role"), item.get("content")
    if role not in ROLES:
        raise RowError(_bad_role(item, f"{key}[{index}]"))
    if len(item) > 2:
        for call in CALLS:
            if item.get(call):
                raise RowError(f"{key}[{index}].{call} = {show(item[call])}: tool calls are not supported")
    if content is None and "content" not in item:
        raise RowError(f"{key}[{index}].content is missing")
    return {"role": role, "content": text(content, f"{key}[{index}].content")}


def _bad_role(item: dict[str, Any], place: str) -> str:
    role = item.get("role")
    if role is None:
        hint = "; from and value are role and content here" if "from" in item else ""
        return f"{place}.role is missing{hint}"
    close = nearest(role.lower(), ROLES) if isinstance(role, str) else ""
    hint = f" Did you mean '{close}'?" if close else ""
    return f"{place}.role = {show(role)}: must be one of {', '.join(ROLES)}.{hint}"
