"""How long a client still waits for its answer: the header `x-request-timeout`, in seconds.

An answer that comes later helps nobody, so the expert is stopped then; the header goes on to the expert's server, which
may be another gateway.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from largeforge.gateway.errors import bad_request

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADER = b"x-request-timeout"


def limit_s(given: Mapping[bytes, bytes], longest_s: float) -> float:
    """Return how many seconds a request may take: what its client says, and never more than `longest_s`.

    Raises ApiError (400) when the client says something else.
    """
    value = given.get(HEADER)
    return longest_s if value is None else min(_seconds(value), longest_s)


def _seconds(value: bytes) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        bad_request(f"The header {HEADER.decode()} must be a number of seconds above 0.", HEADER.decode())
    return seconds
