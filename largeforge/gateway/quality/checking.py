"""A process of its own that judges answers: `python -m largeforge.gateway.quality.checking`.

Clients write the schemas, models the answers, and there are schemas that a validator never comes to an end with. So the
gateway asks here, and ends this process when it takes too long. A line of standard input is a question, a line of
standard output its verdicts: true or false for each answer, or why there is none. Nothing is written anywhere else.
"""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress
from typing import Any

import orjson

from largeforge.gateway.quality.agreement import agree
from largeforge.gateway.quality.answers import Choice, choices
from largeforge.gateway.readable import is_mistake

MOST_MEMORY_BYTES = 2 * 2**30
"""Address space of this process."""


def main() -> None:
    """Answer until standard input ends."""
    os.nice(10)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY_BYTES, MOST_MEMORY_BYTES))
    _say({"ready": True})
    for line in sys.stdin.buffer:
        try:
            _say({"good": _verdicts(orjson.loads(line))})
        except ImportError as error:
            _say({"missing": error.name})
        except Exception:  # a schema can be wrong in any way
            _say({"good": []})


def _verdicts(question: dict[str, Any]) -> list[bool]:
    own = _choices(question["answer"])
    if question["kind"] == "agreement":
        other = _choices(question["other"])
        return [agree(own, other, least_f1=question["least_f1"])] if own else []
    if not own:
        return [] if _is_mistake(question["answer"]) else [False]
    return [valid(choice.text, question["format"]) for choice in own if choice.text or not choice.tools]


def valid(text: str, wanted: dict[str, Any]) -> bool:
    """Return whether a text keeps to a `response_format`."""
    if wanted["type"] == "json_object":
        try:
            return isinstance(orjson.loads(text), dict)
        except orjson.JSONDecodeError:
            return False
    from largeforge.rewards import json_schema

    definition = (wanted.get("json_schema") or {}).get("schema") or {}
    return json_schema.score_of(json_schema.Config(definition=definition, parses=0.0), text) == 1.0


def _choices(answer: dict[str, Any]) -> list[Choice]:
    return choices(answer["body"].encode(), is_stream=answer["is_stream"])


def _is_mistake(answer: dict[str, Any]) -> bool:
    return bool(answer["is_stream"]) and is_mistake(answer["body"].encode())


def _say(what: dict[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(what) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
