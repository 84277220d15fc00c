"""Whether what a server sent with status 200 is an answer to a chat or a completion, looked at without cost to others.

What goes wrong after a stream's head vLLM tells as an event, with the status that it would have had: that of a failure,
or that of a client's mistake which only the engine finds.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import orjson

UNREADABLE = 502
"""Status that what is no answer should have had."""
_ERROR = b'data: {"error"'  # quotes within a string of JSON are escaped, so that no text can look like this


def is_answer(content: Any) -> bool:
    """Return whether JSON is a whole answer; it may be empty, a refusal, or calls of tools alone."""
    choices = content.get("choices") if isinstance(content, dict) else None
    if not isinstance(choices, list) or not choices:
        return False
    for choice in choices:
        if not isinstance(choice, dict):
            return False
        if not isinstance(choice.get("message"), dict) and not isinstance(choice.get("text"), str):
            return False
    return True


def error_status(events: bytes) -> int:
    """Return the status in the last event of a stream that is an error, 0 where there is none."""
    place = events.rfind(_ERROR)
    if place < 0:
        return 0
    line = events[place:].partition(b"\n")[0]
    with suppress(orjson.JSONDecodeError, TypeError, LookupError):
        status = orjson.loads(line.partition(b":")[2])["error"]["code"]
        if type(status) is int and 400 <= status < 600:
            return status
    return UNREADABLE


def is_mistake(events: bytes) -> bool:
    """Return whether a stream ends with an error that is the client's."""
    return 400 <= error_status(events) < 500
