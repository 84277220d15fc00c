"""Find rows whose text is nearly that of an earlier row: MinHash over byte 8-grams, banded (LSH).

Broder (1997), and Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", chapter 3. Signatures lie in a
file, 512 bytes a row; in memory there are about 24 bytes a row. Two texts that share a fraction s of their
8-grams become candidates with probability 1 - (1 - s^8)^16, which is 0.95 for s = 0.8; of candidates the
share is estimated from 128 hashes, with a standard error of at most 0.045.
"""

from __future__ import annotations

import json
from functools import cache
from itertools import accumulate, pairwise
from typing import IO, TYPE_CHECKING, Any

from largeforge.data.formats import said
from largeforge.data.splits import normal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy

HASHES = 128
BANDS = 16
SHINGLE_BYTES = 8
LEADERS = 8
"""With how many rows of a group, at most, each other one is compared."""
_SHINGLES = 96
"""Computed at once: 100 KB, which stay in a processor's cache; 2048 at once take three times as long."""
_PAIRS = 2048
_SEED = 20261120


def in_files(
    files: Sequence[Path], scratch: Path, *, threshold: float, progress: Callable[[int], None] | None = None
) -> list[bytearray]:
    """Return for each row of some prepared files whether a row before it, in any of them, is nearly the same.

    `scratch` is a file for the signatures; it is removed. System prompts do not count.
    """
    counts = []
    try:
        with scratch.open("wb") as output:
            for file in files:
                counts.append(_sign(file, output, progress))
        marks = repeated(scratch, sum(counts), threshold)
    finally:
        scratch.unlink(missing_ok=True)
    ends = list(accumulate(counts, initial=0))
    return [marks[start:end] for start, end in pairwise(ends)]


def _sign(file: Path, output: IO[bytes], progress: Callable[[int], None] | None) -> int:
    rows = 0
    with file.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            output.write(signature(said(json.loads(line))).tobytes())
            rows += 1
            if progress:
                progress(1)
    return rows


def signature(text: str) -> numpy.ndarray:
    """Return the MinHash signature of a text; case and the amount of white space do not count."""
    import numpy

    content = normal(text).encode().ljust(SHINGLE_BYTES)
    shingles = numpy.ndarray(len(content) - SHINGLE_BYTES + 1, "<u8", content, strides=(1,))
    factors, addends = _permutations()
    lowest = numpy.full(HASHES, 2**32 - 1, "u4")
    mixed = shingles * numpy.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> numpy.uint64(29)
    mixed *= numpy.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> numpy.uint64(32)
    for start in range(0, len(mixed), _SHINGLES):
        products = mixed[start : start + _SHINGLES, None] * factors + addends
        numpy.minimum(lowest, (products >> numpy.uint64(32)).min(axis=0).astype("u4"), out=lowest)
    return lowest


def repeated(path: Path, rows: int, threshold: float) -> bytearray:
    """Return for each row whether an earlier one is nearly the same, given a file of signatures."""
    import numpy

    gone = numpy.zeros(rows, bool)
    if rows < 2:
        return bytearray(rows)
    signatures = numpy.memmap(path, "u4", "r", shape=(rows, HASHES))
    for band in range(BANDS):
        keys = _band_keys(signatures, band)
        order = numpy.argsort(keys, kind="stable")
        ordered = keys[order]
        del keys
        starts = numpy.flatnonzero(numpy.r_[True, ordered[1:] != ordered[:-1]])
        sizes = numpy.diff(numpy.r_[starts, rows])
        members = numpy.repeat(sizes > 1, sizes)
        groups = numpy.repeat(numpy.arange(len(starts)), sizes)[members]
        _compare(signatures, order[members], groups, gone, threshold)
    return bytearray(gone.tobytes())


def _band_keys(signatures: Any, band: int) -> Any:
    import numpy

    width = HASHES // BANDS
    factors = _permutations()[0][:width]
    keys = numpy.empty(len(signatures), "u8")
    for start in range(0, len(signatures), 2**16):
        part = signatures[start : start + 2**16, band * width : (band + 1) * width].astype("u8")
        keys[start : start + 2**16] = (part * factors).sum(axis=1, dtype="u8")
    return keys


def _compare(signatures: Any, members: Any, groups: Any, gone: Any, threshold: float) -> None:
    """Mark in `gone` the members of a group, in order, that are like its first one; then go on with the rest."""
    import numpy

    for _ in range(LEADERS):
        kept = ~gone[members]
        members, groups = members[kept], groups[kept]
        first = numpy.r_[True, groups[1:] != groups[:-1]] if len(groups) else numpy.zeros(0, bool)
        leaders = numpy.repeat(members[first], numpy.diff(numpy.r_[numpy.flatnonzero(first), len(members)]))
        for start in range(0, len(members), _PAIRS):
            part = slice(start, start + _PAIRS)
            ones, others = leaders[part], members[part]
            same = (signatures[ones] == signatures[others]).mean(axis=1) >= threshold
            gone[others[same & (ones != others)]] = True
        members, groups = members[~first], groups[~first]
        if not len(members):
            return


@cache
def _permutations() -> tuple[Any, Any]:
    import numpy

    random = numpy.random.Generator(numpy.random.PCG64(_SEED))
    factors = random.integers(0, 2**63, HASHES, dtype="u8") * numpy.uint64(2) + numpy.uint64(1)
    return factors, random.integers(0, 2**63, HASHES, dtype="u8")
