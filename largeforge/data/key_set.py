"""A set of 64-bit keys in 12 to 24 bytes each, where Python's own takes about 100."""

from __future__ import annotations

from array import array

_FULL = 2 / 3


class KeySet:
    """Keys that are hashes already: open addressing in one array."""

    def __init__(self) -> None:
        self._mask = 2**10 - 1
        self._slots = _empty(self._mask + 1)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: int) -> bool:
        key = key or 1  # 0 marks what is free
        return self._slots[self._find(key)] == key

    def add(self, key: int) -> bool:
        """Add a key; return whether it was not there before."""
        key = key or 1
        slot = self._find(key)
        if self._slots[slot] == key:
            return False
        self._slots[slot] = key
        self._count += 1
        if self._count > self._mask * _FULL:
            self._grow()
        return True

    def _find(self, key: int) -> int:
        """Return the slot that holds the key, or the one where it belongs."""
        slots, mask = self._slots, self._mask
        slot = key & mask
        while slots[slot] and slots[slot] != key:
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        before = self._slots
        self._mask = self._mask * 2 + 1
        self._slots = _empty(self._mask + 1)
        for key in before:
            if key:
                self._slots[self._find(key)] = key


def _empty(size: int) -> array[int]:
    return array("Q", bytes(8 * size))
