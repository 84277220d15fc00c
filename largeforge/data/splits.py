"""Choose held-out rows by a hash of the prompt, so that adding or reordering rows moves none.

A prompt is everything before the last answer; case and white space do not matter. The same
prompt is therefore always on one side, however often it occurs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from largeforge.data.tool_calls import as_text

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY_BITS = 64


@dataclass(frozen=True, slots=True)
class Keys:
    """Hashes of what a row answers."""

    prompt: int
    """Of everything before the last answer: decides the side."""
    earlier: tuple[int, ...]
    """Of everything before each earlier answer that a conversation also trains on."""
    whole: int = field(default=0, compare=False)
    """Of the prompt and the answers: equal where rows repeat each other."""


class Splitter:
    """Hashes prompts, apart from the system prompt of one dataset; no seed, so that all runs judge on the same rows."""

    def __init__(self, fraction: float, *, system: str = ""):
        self._limit = int(fraction * 2.0**KEY_BITS)
        self._start = hashlib.sha256()
        self._system = system

    def keys(self, row: dict[str, Any]) -> Keys:
        """Return the keys of a normalised row; the dataset's own system prompt does not count, nor do tools.

        The prompt of plain text is all of it.
        """
        if "text" in row:
            key = _key(hashlib.sha256(normal(row["text"]).encode()))
            return Keys(key, (), key)
        turns = row["messages"][:-1] if "messages" in row else row["prompt"]
        digest = self._start.copy()
        earlier = []
        for turn in turns:
            role, content = turn["role"], turn["content"]
            if role == "assistant" and "messages" in row:
                earlier.append(_key(digest))
            if role != "system" or content != self._system:
                digest.update(f"{role}\x1f{normal(content)}\x1e".encode())
            if "tool_calls" in turn:
                digest.update(f"calls\x1f{as_text(turn['tool_calls'])}\x1e".encode())
        prompt = _key(digest)
        for text in _answers(row):
            digest.update(f"\x1d{text}".encode())
        return Keys(prompt, tuple(earlier), _key(digest))

    def is_heldout(self, key: int) -> bool:
        """Return whether prompts with this key are held out."""
        return key < self._limit


def _answers(row: dict[str, Any]) -> Iterator[str]:
    """Yield what a row has after its prompt; white space at the ends does not count, and letters do."""
    turns = row["messages"][-1:] if "messages" in row else ()
    for turn in (*turns, *row.get("chosen", ()), *row.get("rejected", ()), *row.get("completion", ())):
        calls = as_text(turn["tool_calls"]) if "tool_calls" in turn else ""
        yield f"{turn['role']}\x1f{turn['content'].strip()}{calls}"
    yield from (f"{key}\x1f{row[key]}" for key in ("label", "answer") if key in row)


def _key(digest: hashlib._Hash) -> int:
    return int.from_bytes(digest.digest()[: KEY_BITS // 8])


def normal(text: str) -> str:
    """Return `text` in lower case with single spaces: what makes two prompts the same."""
    return " ".join(text.split()).casefold()
