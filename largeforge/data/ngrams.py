"""Hashes of the word n-grams of many texts at once.

Words are what stands between white space and ASCII punctuation, in lower case. Hashes are of 64 bits and the
same in every process.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

BATCH_CHARACTERS = 2**17
"""About how much text is worth one call; the tables for it take 2 to 16 MB."""
_WORDS = bytes(byte if byte > 127 or chr(byte).isalnum() else 32 for byte in range(256))
_ODD = 0x9E3779B97F4A7C15
_SEED = 20261121


def hashes(texts: Sequence[str], n: int) -> tuple[Any, Any]:
    """Return the hash of each n-gram, and the index of the text that it is from."""
    import numpy

    pieces = [text.lower().encode(errors="surrogatepass").translate(_WORDS) for text in texts]
    content = numpy.frombuffer(b" ".join([*pieces, b""]), "u1")
    letters = content != 32
    edges = numpy.flatnonzero(numpy.diff(numpy.r_[False, letters].astype("i1")))
    starts, ends = edges[0::2], edges[1::2]
    if len(starts) < n:
        return numpy.empty(0, "u8"), numpy.empty(0, "i8")
    words = _words(content, starts, ends)
    offsets = numpy.cumsum([0, *(len(piece) + 1 for piece in pieces)])
    owners = numpy.searchsorted(offsets, starts, "right") - 1
    count = len(words) - n + 1
    found = numpy.zeros(count, "u8")
    for index in range(n):
        found = found * numpy.uint64(_ODD) + words[index : index + count]
    found ^= found >> numpy.uint64(31)
    found *= numpy.uint64(_ODD)
    found ^= found >> numpy.uint64(29)
    inside = owners[:count] == owners[n - 1 :]
    return found[inside], owners[:count][inside]


def _words(content: Any, starts: Any, ends: Any) -> Any:
    """Return a hash of each word: a polynomial in a random number for each byte, by sums from the beginning."""
    import numpy

    numbers, powers, inverses = _tables(1 << max(16, (len(content)).bit_length()))
    sums = numpy.zeros(len(content) + 1, "u8")
    numpy.cumsum(numbers[content] * powers[: len(content)], out=sums[1:])
    found = (sums[ends] - sums[starts]) * inverses[starts]
    return found ^ (found >> numpy.uint64(32))


@cache
def _tables(size: int) -> tuple[Any, Any, Any]:
    import numpy

    numbers = numpy.random.Generator(numpy.random.PCG64(_SEED)).integers(0, 2**63, 256, dtype="u8")
    base = numpy.uint64(_ODD)
    inverse = numpy.uint64(pow(_ODD, -1, 2**64))
    powers, inverses = numpy.full(size, base, "u8"), numpy.full(size, inverse, "u8")
    powers[0] = inverses[0] = 1
    return numbers, numpy.cumprod(powers, dtype="u8"), numpy.cumprod(inverses, dtype="u8")
