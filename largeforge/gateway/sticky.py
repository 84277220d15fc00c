"""Divide requests by weight, so that one who asks again gets the same: a keyed stable hash.

The hash is keyed by what is divided and by the recipe's salt, so that two divisions have nothing to do with each other,
and it does not depend on the process, the machine or the number of workers.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_WHOLE = 2.0**64


class Division:
    """One way to divide: `purpose` names it, `salt` is the recipe's."""

    def __init__(self, purpose: str, salt: str, random: Callable[[], float]):
        self._hash = hashlib.blake2b(digest_size=8, key=hashlib.blake2b(f"{purpose}\0{salt}".encode()).digest())
        self._random = random

    def place(self, who: str) -> float:
        """Return where somebody stands from 0 up to 1: always the same place, and anywhere for an empty name."""
        if not who:
            return self._random()
        found = self._hash.copy()
        found.update(who.encode("utf-8", "surrogatepass"))
        return int.from_bytes(found.digest(), "big") / _WHOLE


class Shares:
    """Names by weight. Its cost does not depend on how many there are."""

    def __init__(self, weights: Mapping[str, float], *, whole: float | None = None):
        """Divide `whole`, the sum of all weights by default; what is left of it belongs to nobody."""
        self._names = [name for name, weight in weights.items() if weight > 0]
        whole = sum(weights.values()) if whole is None else whole
        self._ends = [end / whole for end in accumulate(weights[name] for name in self._names)] if whole else []

    def at(self, place: float) -> str:
        """Return the name at a place from 0 up to 1, empty where nobody's share is."""
        index = bisect_right(self._ends, place)
        return self._names[index] if index < len(self._names) else ""
