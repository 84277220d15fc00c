"""Text as numbers of hashed features: runs of 4 bytes, words, and pairs of words.

Runs of bytes carry over to other forms of a word, to misspellings, and to scripts that write no spaces; words and pairs
carry meaning (Joulin et al., Bag of Tricks for Efficient Text Classification, arXiv:1607.01759). Hashes depend on
nothing but the text, so that what was learnt on one machine holds on another.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Ids = np.ndarray[Any, np.dtype[np.uint32]]

MAX_BYTES = 1_024
"""Features are taken from this many bytes at the start of a text."""
RUN = 4

_PRIME = 2_654_435_761
"""Multiplier of the rolling hash, the golden ratio of 32 bits (Knuth, The Art of Computer Programming 3, 6.4)."""


def features(text: str, *, bits: int) -> Ids:
    """Return the features of a text, each below 2**bits, as often as they occur; none for an empty text."""
    import numpy as np

    content = text[:MAX_BYTES].lower().encode("utf-8", "replace")[:MAX_BYTES]
    words = content.split()
    if not words:
        return np.zeros(0, np.uint32)
    content = b" %b " % b" ".join(words)
    single = np.frombuffer(content, dtype=np.uint8).astype(np.uint32)
    prime = np.uint32(_PRIME)
    run = single
    for length in range(2, min(RUN, len(single)) + 1):
        run = run[:-1] * prime + single[length - 1 :]
    of_words = np.array([zlib.crc32(word) for word in words], dtype=np.uint32)
    found = np.concatenate([run, of_words, of_words[:-1] * prime + of_words[1:]])
    ids: Ids = (found * prime) >> np.uint32(32 - bits)
    return ids
