"""Mix the prepared rows of several sources into one file, in the shares that their weights ask for.

A pass over the mixture has a fixed number of rows. A source with fewer than its share is repeated whole as
often as it fits; of the rest, and of a source with more than its share, those rows are taken whose hash is
lowest, so that adding rows to a source changes few of the others. Sources are interleaved evenly: every
stretch of the file has about the shares of the whole.
"""

from __future__ import annotations

import hashlib
import heapq
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from largeforge.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from largeforge.data.writers import RowWriter

_SOURCE_KEY = '"source":'


@dataclass(frozen=True)
class Portion:
    """What one source gives to a pass over the mixture."""

    name: str
    has: int
    """Rows that the source has."""
    gives: int
    """Rows in the mixture, repetitions counted."""

    @property
    def passes(self) -> float:
        """How often each of its rows is seen, on average."""
        return self.gives / self.has


def portions(rows: Mapping[str, int], weights: Mapping[str, float], total: int) -> list[Portion]:
    """Return what each source gives, given the rows that each has; without weights each row once.

    `total` is the rows of the mixture, 0 for as many as all sources have. Raises DataError for a source
    that has a weight and no rows.
    """
    if not any(weights.values()):
        return [Portion(name, has, has) for name, has in rows.items()]
    if empty := [name for name, has in rows.items() if not has]:
        raise DataError(f"dataset.mix.{empty[0]}: it has a weight, and no rows are left to train on")
    total = total or sum(rows.values())
    whole = sum(weights.values())
    exact = {name: total * weights[name] / whole for name in rows}
    given = {name: int(share) for name, share in exact.items()}
    by_rest = sorted(rows, key=lambda name: given[name] - exact[name])  # stable: equal rests in the recipe's order
    for name in by_rest[: total - sum(given.values())]:
        given[name] += 1
    return [Portion(name, rows[name], given[name]) for name in rows]


def mix(sources: Mapping[str, RowWriter], parts: list[Portion], output: RowWriter) -> None:
    """Write the rows of finished files into one."""
    streams = {part.name: _rows(sources[part.name], part) for part in parts}
    waiting = [(0.5 / part.gives, index, 1) for index, part in enumerate(parts) if part.gives]
    heapq.heapify(waiting)
    while waiting:
        _, index, done = waiting[0]
        part = parts[index]
        output.write_line(*next(streams[part.name]))
        if done == part.gives:
            heapq.heappop(waiting)
        else:
            heapq.heapreplace(waiting, ((done + 0.5) / part.gives, index, done + 1))


def _rows(source: RowWriter, part: Portion) -> Iterator[tuple[str, int]]:
    """Yield line and length of the rows of a portion: whole passes first, then a part of one."""
    whole, rest = divmod(part.gives, part.has) if part.has else (0, 0)
    for _ in range(whole):
        yield from zip(_lines(source.path), source.lengths, strict=True)
    if not rest:
        return
    keys = array("Q", map(_key, _lines(source.path)))
    limit, ties = _limit(keys, rest)
    for line, length, key in zip(_lines(source.path), source.lengths, keys, strict=True):
        if key < limit or (key == limit and ties):
            ties -= key == limit
            yield line, length


def _limit(keys: array[int], wanted: int) -> tuple[int, int]:
    """Return the largest of the lowest keys, and how many of that one are wanted."""
    import numpy

    values = numpy.frombuffer(keys, "u8")
    limit = int(numpy.partition(values, wanted - 1)[wanted - 1])
    return limit, wanted - int((values < limit).sum())


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", newline="\n") as file:
        yield from file


def _key(line: str) -> int:
    """Return a hash of a row without its place, which changes when rows are added before it."""
    content = line[: line.rindex(_SOURCE_KEY)]
    return int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8).digest())
