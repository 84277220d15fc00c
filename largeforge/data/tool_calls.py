"""Tool calls and tool descriptions, brought to the form that chat templates expect.

    tool_calls  [{"id"?, "type": "function", "function": {"name", "arguments": {...}}}, ...]
    tools       [{"type": "function", "function": {"name", ...}}, ...]

Arguments are always an object with its keys in their order, whether the row has an object or JSON
text: templates write the object themselves. Descriptions of tools keep all that they have.
"""

from __future__ import annotations

import json
import math
from typing import Any

from largeforge.data.faults import RowError, show

Calls = list[dict[str, Any]]


def calls(value: Any, key: str) -> Calls:
    """Return the calls in `value`; one may stand alone, and without its `function` level.

    Raises RowError on the first thing that is wrong.
    """
    items = value if isinstance(value, list) else [value]
    return [_call(item, f"{key}[{index}]" if isinstance(value, list) else key) for index, item in enumerate(items)]


def tools(value: Any, key: str) -> list[dict[str, Any]]:
    """Return the descriptions of tools in `value`, a list or its JSON text.

    Raises RowError on the first thing that is wrong.
    """
    items = parsed(value, key) if isinstance(value, str) else value
    if not isinstance(items, list):
        raise RowError(f"{key} = {show(value)}: must be a list of tools")
    return [_tool(item, f"{key}[{index}]") for index, item in enumerate(items)]


def as_text(found: Calls) -> str:
    """Return calls as JSON of their names and arguments: what a reward can compare an answer with."""
    return json.dumps([call["function"] for call in found], ensure_ascii=False)


def parsed(text: str, key: str) -> Any:
    """Return what JSON text in a row means.

    Raises RowError where it is none.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "it cannot be used"
        raise RowError(f"{key} = {show(text)}: not JSON: {reason}") from None


def _call(item: Any, place: str) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise RowError(f"{place} = {show(item)}: must be an object with a function")
    function = item.get("function", item)
    if isinstance(function, str):  # {"function": "name", "arguments": …}
        function = {"name": function, "arguments": item.get("arguments")}
    if not isinstance(function, dict) or item.get("type") not in (None, "function"):
        raise RowError(f"{place} = {show(item)}: must be an object with a function")
    name = function.get("name")
    if not isinstance(name, str) or not name.strip():
        raise RowError(f"{place}.name = {show(name)}: must be the name of a tool")
    call = {"type": "function", "function": {"name": name, "arguments": _arguments(function, f"{place}.arguments")}}
    identity = item.get("id")
    if identity is None:
        return _encodable(call, place)
    if not isinstance(identity, str):
        raise RowError(f"{place}.id = {show(identity)}: must be a string")
    return _encodable({"id": identity, **call}, place)


def _arguments(function: dict[str, Any], key: str) -> dict[str, Any]:
    given = function.get("arguments", function.get("parameters"))
    if given is None or given == "":
        return {}
    found = parsed(given, key) if isinstance(given, str) else given
    if not isinstance(found, dict):
        raise RowError(f"{key} = {show(given)}: must be an object, or the JSON text of one")
    return found


def _tool(item: Any, place: str) -> dict[str, Any]:
    tool = parsed(item, place) if isinstance(item, str) else item
    if not isinstance(tool, dict):
        raise RowError(f"{place} = {show(item)}: must be an object that describes a tool")
    found = tool if "function" in tool else {"type": "function", "function": tool}
    function = found["function"]
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowError(f"{place} = {show(item)}: a tool has a function with a name")
    return _encodable(found, place)


def _encodable(value: dict[str, Any], place: str) -> dict[str, Any]:
    """Return `value` if it can be written as JSON in UTF-8: no NaN, no half of a surrogate pair."""
    for item in _leaves(value):
        if isinstance(item, float) and not math.isfinite(item):
            raise RowError(f"{place} has the number {item}, which JSON does not have")
        if isinstance(item, str) and not item.isascii():
            try:
                item.encode()
            except UnicodeEncodeError:
                raise RowError(f"{place} has half of a surrogate pair in {show(item)}") from None
        if not isinstance(item, str | int | float | None):
            raise RowError(f"{place} has a value that JSON does not have: {show(item)}")
    return value


def _leaves(value: Any) -> list[Any]:
    found, waiting = [], [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting += item.keys()
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
        else:
            found.append(item)
    return found
