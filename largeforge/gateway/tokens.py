"""Read from an answer's bytes how many tokens it took, without parsing all of it.

The last `"usage":` of the bytes counts if what follows it, up to the end, closes just one object: then it belongs to
the answer itself. In a text it cannot stand, since quotes within a string of JSON are escaped, and in an object further
inside more is closed after it. So neither what a model writes nor what a client sends back to itself is ever counted.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_TAIL_BYTES = 256 * 1024
"""How far from the end of an answer it is looked for."""
MOST_CANDIDATES = 4
"""How often it is looked for again, further from the end."""
MOST_TOKENS = 10**9
"""More than this is no count of one answer's tokens."""

_KEY = b'"usage":'
_DATA = b"data:"
_DONE = b"[DONE]"


class Usage(NamedTuple):
    """The tokens of one answer."""

    prompt: int
    completion: int


def of_content(content: Any) -> Usage | None:
    """Return what an answer that was parsed says of its tokens, None when it says nothing that can be believed."""
    return _usage(content.get("usage")) if isinstance(content, dict) else None


def of_answer(body: bytes) -> Usage | None:
    """Return what an answer says of its tokens, None when it says nothing that can be believed."""
    end, start = len(body), max(0, len(body) - MOST_TAIL_BYTES)
    for _ in range(MOST_CANDIDATES):
        end = body.rfind(_KEY, start, end)
        if end < 0:
            return None
        with suppress(orjson.JSONDecodeError):
            return _usage(orjson.loads(b"{" + body[end:])["usage"])
    return None


def of_stream(last: Iterable[bytes]) -> Usage | None:
    """Return what the last event of a stream says of its tokens; `last` are the last whole lines of it."""
    for line in reversed(b"".join(last).split(b"\n")):
        if line.startswith(_DATA) and (data := line[len(_DATA) :].strip()) != _DONE:
            return of_answer(data)
    return None


def _usage(given: Any) -> Usage | None:
    if not isinstance(given, dict):
        return None
    prompt, completion = _count(given.get("prompt_tokens")), _count(given.get("completion_tokens"))
    return Usage(prompt, completion) if prompt or completion else None


def _count(given: Any) -> int:
    return given if type(given) is int and 0 <= given <= MOST_TOKENS else 0
