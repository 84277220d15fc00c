"""Find held-out rows whose text occurs in training rows, though their prompts differ.

As for GPT-3 (Brown et al. 2020, appendix C): n-grams of words, where n is the number of words of a short
held-out row (the 5th percentile), between 8 and 13; n-grams that occur in more than ten training rows are
templates or phrases and do not count. A held-out row is contaminated when at least `threshold` of its n-grams
occur in training rows. Memory is bounded: of more than two million n-grams a part, chosen by hash, is looked at.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from largeforge.data import ngrams
from largeforge.data.formats import said

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

MAX_NGRAMS = 2_000_000
COMMON_ROWS = 10
SHORTEST, LONGEST = 8, 13
SHOWN = 10
_FILTER_BITS = 22


@dataclass(frozen=True)
class Found:
    """What training rows give away."""

    n: int
    """Words of an n-gram."""
    heldout_rows: int
    """Held-out rows that are contaminated."""
    examples: list[tuple[str, str]]
    """Sources of a training row and of the held-out row whose text it has, for the first of them."""
    offenders: list[list[int]]
    """For each file of training rows, the indexes of those that contain text of such rows."""

    @property
    def train_rows(self) -> int:
        """How many training rows contain text of contaminated held-out rows."""
        return sum(map(len, self.offenders))

    def describe(self) -> str:
        """Return what was found in one sentence without a full stop."""
        held, rows = self.heldout_rows, self.train_rows
        places = ", ".join(f"{one} has text of {other}" for one, other in self.examples[:3])
        return (
            f"{held} held-out row{' is' if held == 1 else 's are'} largely contained in {rows} training "
            f"row{'' if rows == 1 else 's'}, by {self.n}-grams of words ({places}{', …' if rows > 3 else ''})"
        )


def search(
    heldout: Path,
    train: Sequence[Path],
    *,
    threshold: float,
    gone: Sequence[bytearray] = (),
    progress: Callable[[int], None] | None = None,
) -> Found:
    """Compare prepared files; `gone` marks the training rows of each file that are left out anyway."""
    n = _length(heldout)
    index = _Index(heldout, n)
    if index.is_empty:
        return Found(n, 0, [], [[] for _ in train])
    left_out = gone or [bytearray() for _ in train]
    for path, marks in zip(train, left_out, strict=True):
        for _, grams, owners in _batches(path, n, marks, progress):
            index.count(grams, owners)
    wanted, rows = index.judge(threshold)
    if not rows:
        return Found(n, 0, [], [[] for _ in train])
    offenders: list[list[int]] = []
    pairs: list[tuple[Path, int, int]] = []
    for path, marks in zip(train, left_out, strict=True):
        found: list[int] = []
        for numbers, grams, owners in _batches(path, n, marks):
            for owner, row in index.matches(grams, owners, wanted):
                if found[-1:] == [numbers[owner]]:
                    continue  # another piece of a long text
                found.append(numbers[owner])
                pairs += [(path, numbers[owner], row)] if len(pairs) < SHOWN else []
        offenders.append(found)
    return Found(n, rows, _sources(heldout, pairs), offenders)


class _Index:
    """The n-grams of the held-out rows, and in how many training rows each occurs."""

    def __init__(self, heldout: Path, n: int):
        import numpy

        self._shift = numpy.uint64(0)
        grams, rows, kept = [], [], 0
        for numbers, found, owners in _batches(heldout, n, bytearray()):
            chosen = self._sampled(found)
            grams.append(found[chosen])
            rows.append(numpy.asarray(numbers, "u4")[owners[chosen]])
            kept += len(grams[-1])
            while kept > MAX_NGRAMS:
                self._shift += numpy.uint64(1)
                masks = [self._sampled(each) for each in grams]
                rows = [each[mask] for each, mask in zip(rows, masks, strict=True)]
                grams = [each[mask] for each, mask in zip(grams, masks, strict=True)]
                kept = sum(map(len, grams))
        self._rows = numpy.concatenate([*rows, numpy.empty(0, "u4")])
        self._grams, self._places = numpy.unique(numpy.concatenate([*grams, numpy.empty(0, "u8")]), return_inverse=True)
        self._counts = numpy.zeros(len(self._grams), "u4")
        self._filter = numpy.zeros(2**_FILTER_BITS, bool)
        self._filter[self._grams >> numpy.uint64(64 - _FILTER_BITS)] = True

    @property
    def is_empty(self) -> bool:
        return not len(self._grams)

    def count(self, grams: Any, owners: Any) -> None:
        """Count in how many rows each n-gram occurs."""
        import numpy

        places, owners = self._found(grams, owners)
        if len(places):
            width = int(owners.max()) + 1
            once = numpy.unique(places * width + owners) // width
            numpy.add.at(self._counts, once, 1)

    def judge(self, threshold: float) -> tuple[Any, int]:
        """Return which n-grams give a contaminated row away, and how many such rows there are."""
        import numpy

        telling = self._counts[self._places] <= COMMON_ROWS
        size = int(self._rows.max()) + 1
        all_ = numpy.bincount(self._rows[telling], minlength=size)
        seen = numpy.bincount(self._rows[telling & (self._counts[self._places] > 0)], minlength=size)
        bad = (all_ > 0) & (seen >= threshold * all_)
        occurrences = bad[self._rows] & telling & (self._counts[self._places] > 0)
        wanted = numpy.full(len(self._grams), -1, "i8")
        wanted[self._places[occurrences][::-1]] = self._rows[occurrences][::-1]
        return wanted, int(bad.sum())

    def matches(self, grams: Any, owners: Any, wanted: Any) -> Iterator[tuple[int, int]]:
        """Yield each text with a wanted n-gram once, and the held-out row that it gives away."""
        import numpy

        places, owners = self._found(grams, owners)
        chosen = wanted[places] >= 0
        found, first = numpy.unique(owners[chosen], return_index=True)
        yield from zip(found.tolist(), wanted[places[chosen][first]].tolist(), strict=True)

    def _found(self, grams: Any, owners: Any) -> tuple[Any, Any]:
        """Return the places of those n-grams that the index has, and what they are from."""
        import numpy

        near = self._filter[grams >> numpy.uint64(64 - _FILTER_BITS)] & self._sampled(grams)
        grams, owners = grams[near], owners[near]
        places = numpy.minimum(numpy.searchsorted(self._grams, grams), len(self._grams) - 1)
        same = self._grams[places] == grams
        return places[same], owners[same]

    def _sampled(self, grams: Any) -> Any:
        import numpy

        return grams & ((numpy.uint64(1) << self._shift) - numpy.uint64(1)) == 0


def _batches(
    path: Path, n: int, gone: bytearray, progress: Callable[[int], None] | None = None
) -> Iterator[tuple[list[int], Any, Any]]:
    """Yield row numbers, n-grams, and for each n-gram the place of its row among the numbers."""
    numbers: list[int] = []
    texts: list[str] = []
    size = 0
    for number, text in _texts(path, gone):
        numbers.append(number)
        texts.append(text)
        size += len(text)
        if size >= ngrams.BATCH_CHARACTERS:
            yield numbers, *ngrams.hashes(texts, n)
            if progress:
                progress(len(numbers))
            numbers, texts, size = [], [], 0
    if texts:
        yield numbers, *ngrams.hashes(texts, n)


def _texts(path: Path, gone: bytearray) -> Iterator[tuple[int, str]]:
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file):
            if not (number < len(gone) and gone[number]):
                text = said(json.loads(line))
                for start in range(0, len(text), ngrams.BATCH_CHARACTERS):
                    yield number, text[start : start + ngrams.BATCH_CHARACTERS]


def _length(heldout: Path) -> int:
    """Return the length of n-grams that suits rows as short as these."""
    import numpy

    counts = [len(text.split()) for _, text in _texts(heldout, bytearray())]
    return int(numpy.clip(numpy.percentile(counts, 5), SHORTEST, LONGEST)) if counts else LONGEST


def _sources(heldout: Path, pairs: list[tuple[Path, int, int]]) -> list[tuple[str, str]]:
    """Return the sources of pairs of a training row and a held-out row."""
    wanted: dict[Path, set[int]] = {}
    for path, one, other in pairs:
        wanted.setdefault(path, set()).add(one)
        wanted.setdefault(heldout, set()).add(other)
    names = {}
    for path, numbers in wanted.items():
        with path.open(encoding="utf-8", newline="\n") as file:
            names.update({(path, n): json.loads(line)["source"] for n, line in enumerate(file) if n in numbers})
    return [(names[path, one], names[heldout, other]) for path, one, other in pairs]
