"""What is suspicious about the way rows are written out, in words: a wrong chat template is seen before it costs.

Nothing here is an error by itself: a template may leave something out on purpose.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from largeforge.data.formats import Kind, Row
    from largeforge.tokens.engine import Tokens

NOTHING_LEARNT = "no token is learnt"
NO_END = "the end of the answer is not learnt: the model would not know when to stop"
TWO_BEGINNINGS = "the text begins with two BOS tokens"
NOT_A_PREFIX = (
    "the prompt is written differently once the answer follows: the model is trained on another text than it is asked"
)
NO_SYSTEM = "the chat template leaves out the system message"
NO_TOOLS = "the chat template leaves out the tools"
NO_CALLS = "the chat template leaves out tool calls, or their arguments"
NO_TOOL_ANSWER = "the chat template leaves out what a tool answered"
NO_MESSAGE = "the chat template leaves out parts of messages (reasoning of earlier turns, for example)"


@dataclass(frozen=True)
class Marks:
    """Tokens that mean something to a model."""

    bos: int | None
    ends: frozenset[int]
    """Tokens at which it stops to write."""


def suspicions(row: Row, kind: Kind, sequences: Sequence[Tokens], texts: Sequence[str], marks: Marks) -> list[str]:
    """Return what is suspicious about one row; `texts` are its sequences as text."""
    found = list(_of_tokens(kind, sequences, marks))
    for messages, text in zip(_conversations(row, kind), texts, strict=True):
        found += _of_text(messages, row.get("tools"), text)
    return list(dict.fromkeys(found))


def summary(found: Sequence[Iterable[str]]) -> list[str]:
    """Return the suspicions of many rows, each once with the number of rows, the most frequent first."""
    counts = Counter(text for texts in found for text in texts)
    rows = f"{len(found)} row{'s' if len(found) != 1 else ''} looked at"
    return [f"{text} ({count} of {rows})" for text, count in counts.most_common()]


def _of_tokens(kind: Kind, sequences: Sequence[Tokens], marks: Marks) -> Iterable[str]:
    for tokens in sequences:
        ids = tokens.ids
        if marks.bos is not None and ids[:2] == [marks.bos] * 2:
            yield TWO_BEGINNINGS
        if kind == "prompt":
            continue
        if not tokens.learnt:
            yield NOTHING_LEARNT
        elif marks.ends and not marks.ends.intersection(ids[slice(*tokens.learnt[-1])]):
            yield NO_END
        if tokens.overhang:
            yield NOT_A_PREFIX


def _conversations(row: Row, kind: Kind) -> list[list[dict[str, Any]]]:
    if kind == "text":
        return [[]]
    if kind == "sft":
        return [row["messages"]]
    sides = {"preference": ("chosen", "rejected"), "unpaired": ("completion",), "prompt": ()}[kind]
    return [row["prompt"] + row[side] for side in sides] or [row["prompt"]]


def _of_text(messages: list[dict[str, Any]], tools: list[Any] | None, text: str) -> Iterable[str]:
    if not all(_has(text, tool.get("function", tool).get("name", "")) for tool in tools or []):
        yield NO_TOOLS
    for message in messages:
        if not _has(text, message.get("content") or ""):
            yield {"system": NO_SYSTEM, "tool": NO_TOOL_ANSWER}.get(message["role"], NO_MESSAGE)
        for call in message.get("tool_calls") or []:
            function = call.get("function", call)
            said = [function.get("name", ""), *_strings(function.get("arguments"))]
            if not all(_has(text, one) for one in said):
                yield NO_CALLS


def _has(text: str, content: str) -> bool:
    """Tell whether a text has a content, possibly as a string within JSON."""
    content = content.strip()
    return content in text or json.dumps(content, ensure_ascii=False)[1:-1] in text or json.dumps(content)[1:-1] in text


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in (key, *_strings(item))]
    return [found for item in value for found in _strings(item)] if isinstance(value, list) else []
