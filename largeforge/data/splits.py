"""Choose held-out rows by a hash of the prompt, so that adding or reordering rows moves none.

A prompt is everything before the last answer; case and white space do not matter. The same
prompt is therefore always on one side, however often it occurs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from largeforge.data.tool_calls import as_text

KEY_BITS = 64


@dataclass(frozen=True, slots=True)
class Keys:
    """Hashes of what a row answers."""

    prompt: int
    """Of everything before the last answer: decides the side."""
    earlier: tuple[int, ...]
    """Of everything before each earlier answer that a conversation also trains on."""


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
            digest = hashlib.sha256(normal(row["text"]).encode())
            return Keys(int.from_bytes(digest.digest()[: KEY_BITS // 8]), ())
        turns = row["messages"][:-1] if "messages" in row else row["prompt"]
        digest = self._start.copy()
        earlier = []
        for turn in turns:
            role, content = turn["role"], turn["content"]
            if role == "assistant" and "messages" in row:
                earlier.append(int.from_bytes(digest.digest()[: KEY_BITS // 8]))
            if role != "system" or content != self._system:
                digest.update(f"{role}\x1f{normal(content)}\x1e".encode())
            if "tool_calls" in turn:
                digest.update(f"calls\x1f{as_text(turn['tool_calls'])}\x1e".encode())
        return Keys(int.from_bytes(digest.digest()[: KEY_BITS // 8]), tuple(earlier))

    def is_heldout(self, key: int) -> bool:
        """Return whether prompts with this key are held out."""
        return key < self._limit


def normal(text: str) -> str:
    """Return `text` in lower case with single spaces: what makes two prompts the same."""
    return " ".join(text.split()).casefold()
