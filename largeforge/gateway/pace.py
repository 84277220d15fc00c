"""Measure a stream as it passes: when its first token came, how long each further one took, and how many there were."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from largeforge.gateway import readable, tokens
from largeforge.gateway.tokens import Usage

if TYPE_CHECKING:
    from collections.abc import Callable

_FIRST = b"data:"
_FURTHER = b"\ndata:"  # a line break within a string of JSON is escaped, so that no text can look like this
_END = b"data: [DONE]\n\n"
_ONLY_USAGE = b'"choices":[]'
_KEPT = 4
"""The last event, the end mark and the empty lines after both come in so many pieces at most."""


class Pace:
    """One stream; `piece` is called once for each of its pieces and has to be quick."""

    __slots__ = ("_clock", "_last", "_last_at", "_observe", "first_token_at", "num_events")

    def __init__(self, observe: Callable[[float], None], clock: Callable[[], float]):
        """Have `observe` told the seconds between one token and the next."""
        self._observe = observe
        self._clock = clock
        self._last: deque[bytes] = deque(maxlen=_KEPT)
        self._last_at = 0.0
        self.first_token_at: float | None = None
        self.num_events = 0
        """Events that bring a part of an answer."""

    def piece(self, data: bytes) -> None:
        """Take whole lines as they came; events that came together share the time since those before."""
        self._last.append(data)
        events = data.count(_FURTHER) + data.startswith(_FIRST)
        if data.endswith(_END):
            events -= 1
        if _ONLY_USAGE in data:
            events -= 1
        if events <= 0:
            return
        now = self._clock()
        self.num_events += events
        if self.first_token_at is None:
            self.first_token_at = now
        elif events == 1:
            self._observe(now - self._last_at)
        else:
            each_s = (now - self._last_at) / events
            for _ in range(events):
                self._observe(each_s)
        self._last_at = now

    def true_status(self) -> int:
        """Return the status that a stream which is at its end should have had, 0 where it brought an answer."""
        if not self.num_events:
            return readable.UNREADABLE
        return readable.error_status(b"".join(self._last))

    def usage(self) -> Usage:
        """Return the tokens: what the last event says of them, or one for each event where it says nothing."""
        return tokens.of_stream(self._last) or Usage(0, self.num_events)
