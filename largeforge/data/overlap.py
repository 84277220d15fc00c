"""Keep what is held out apart from what is trained on.

A training row gives a held-out prompt away when it answers it, be it in an earlier turn of a
conversation. Between two given files that is the user's mistake (`GivenHeldout`). Where the
held-out rows are split off here, whole prompts cannot be on both sides (see `splits.py`), but
earlier turns can: those rows are found for removal (`EarlierTurns`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.data.checks import Problems

if TYPE_CHECKING:
    from pathlib import Path

    from largeforge.data.splits import Keys, Splitter


class GivenHeldout:
    """The prompts of a held-out file, and the training rows that answer one of them."""

    def __init__(self, path: Path):
        self._path = path
        self._places: dict[int, str] = {}
        self._problems = Problems()

    def add(self, source: str, keys: Keys) -> None:
        """Remember a held-out row."""
        self._places.setdefault(keys.prompt, source)

    def check(self, source: str, keys: Keys) -> None:
        """Note a training row that answers a held-out prompt."""
        for key in (keys.prompt, *keys.earlier):
            if key in self._places:
                turn = "" if key == keys.prompt else " in an earlier turn"
                self._problems.add(source, f"answers{turn} the held-out prompt of {self._places[key]}")
                return

    def raise_if_any(self, train: Path) -> None:
        """Raise DataError when a training row answers a held-out prompt."""
        self._problems.raise_if_any(
            f"of {train} answer prompts that are held out in {self._path}",
            "Results on such prompts say nothing: take these rows out of either file. "
            "(Case and white space do not make a prompt another one.)",
        )


class EarlierTurns:
    """Held-out prompts of a split, and the training rows that may answer one in an earlier turn."""

    def __init__(self, splitter: Splitter):
        self._splitter = splitter
        self._heldout: set[int] = set()
        self._suspects: list[tuple[int, list[int]]] = []

    def add_heldout(self, keys: Keys) -> None:
        """Remember a held-out row."""
        self._heldout.add(keys.prompt)

    def add_train(self, index: int, keys: Keys) -> None:
        """Remember a training row if an earlier turn belongs to the held-out side."""
        if held := [key for key in keys.earlier if self._splitter.is_heldout(key)]:
            self._suspects.append((index, held))

    def leaks(self) -> set[int]:
        """Return the indexes of the training rows that answer a prompt that is held out."""
        return {index for index, keys in self._suspects if not self._heldout.isdisjoint(keys)}
