"""What becomes of one source: its rows on either side of the split, and which of them are left out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from largeforge.data.overlap import EarlierTurns
from largeforge.data.splits import Splitter
from largeforge.data.writers import without

if TYPE_CHECKING:
    from collections.abc import Iterable

    from largeforge.data.checks import CheckedSource
    from largeforge.data.key_set import KeySet
    from largeforge.data.writers import RowWriter


@dataclass
class Marks:
    """Rows of a file that are left out, by their index."""

    gone: bytearray = field(default_factory=bytearray)

    def add(self, indexes: Iterable[int], rows: int) -> int:
        """Mark rows of a file that has that many; return how many were not marked before."""
        self.gone.extend(bytes(rows - len(self.gone)))
        new = 0
        for index in indexes:
            new += not self.gone[index]
            self.gone[index] = 1
        return new


class Part:
    """One source while it is prepared."""

    def __init__(self, source: CheckedSource, train: RowWriter, *, fraction: float, heldout_keys: KeySet):
        self.source = source
        self.train = train
        self.splitter = Splitter(fraction, system=source.source.system)
        self.turns = EarlierTurns(self.splitter, heldout_keys)
        self.marks = Marks()

    @property
    def name(self) -> str:
        """Name of the source within a mixture; empty where there is none."""
        return self.source.name

    def leave_out(self, indexes: Iterable[int]) -> int:
        """Mark rows; return how many were not marked before."""
        return self.marks.add(indexes, self.train.rows)

    def finish(self) -> None:
        """Take the marked rows out of the file."""
        self.train = without(self.train, self.marks.gone)
        self.marks = Marks()
