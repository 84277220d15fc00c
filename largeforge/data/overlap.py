"""Keep what is held out apart from what is trained on.

A training row gives a held-out prompt away when its last answer is to that prompt. Between two
given files that is the user's mistake (`GivenHeldout`); a split cannot do it (see `splits.py`).

An earlier turn of a conversation gives one away too, but only to a method that learns earlier
turns. Given files keep such rows and they are counted; from a split they are found for removal
(`EarlierTurns`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.data.bad_rows import Problems

if TYPE_CHECKING:
    from largeforge.data.key_set import KeySet
    from largeforge.data.splits import Keys, Splitter


class GivenHeldout:
    """The prompts of a held-out file, and the training rows that answer one of them."""

    def __init__(self, title: str):
        self._title = title
        self._places: dict[int, str] = {}
        self._problems = Problems()
        self.earlier_turns = 0
        """Training rows that answer a held-out prompt in an earlier turn only."""

    def add(self, source: str, keys: Keys) -> None:
        """Remember a held-out row."""
        self._places.setdefault(keys.prompt, source)

    def check(self, source: str, keys: Keys) -> None:
        """Note a training row that answers a held-out prompt."""
        if keys.prompt in self._places:
            self._problems.add(source, f"has the prompt of {self._places[keys.prompt]}")
        elif any(key in self._places for key in keys.earlier):
            self.earlier_turns += 1

    def raise_if_any(self, train: str) -> None:
        """Raise DataError when a training row answers a held-out prompt."""
        self._problems.raise_if_any(
            f"of {train} with a prompt that is held out in {self._title}",
            "Results on such prompts say nothing: take these rows out of either file. "
            "(Case and white space do not make a prompt another one.)",
        )


class EarlierTurns:
    """Held-out prompts of a split, and the training rows of one source that may answer one in an earlier turn."""

    def __init__(self, splitter: Splitter, heldout: KeySet):
        self._splitter = splitter
        self._heldout = heldout
        self._suspects: list[tuple[int, list[int]]] = []

    def add_heldout(self, keys: Keys) -> None:
        """Remember a held-out row, for all sources that share the set."""
        self._heldout.add(keys.prompt)

    def add_train(self, index: int, keys: Keys) -> None:
        """Remember a training row if an earlier turn belongs to the held-out side."""
        if held := [key for key in keys.earlier if self._splitter.is_heldout(key)]:
            self._suspects.append((index, held))

    def leaks(self) -> list[int]:
        """Return the indexes of the training rows that answer a prompt that is held out."""
        return [index for index, keys in self._suspects if any(key in self._heldout for key in keys)]
