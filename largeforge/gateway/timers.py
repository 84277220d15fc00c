"""Timers that are all of one length, and nearly all cancelled: one timer of the event loop does for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

TICK_S = 0.002
"""How exactly an event loop knows the time."""


class Timers:
    """The timers of one length; who is there first is due first, so that only the first is waited for."""

    def __init__(self, loop: asyncio.AbstractEventLoop, length_s: float):
        self.length_s = length_s
        self._loop = loop
        self._due: dict[Callable[..., Any], tuple[float, Any]] = {}
        self._bell: asyncio.TimerHandle | None = None

    def start(self, call: Callable[..., Any], argument: Any) -> None:
        """Have `call`, which has no other timer, called when the time is over."""
        self._due[call] = (self._loop.time() + self.length_s, argument)
        if self._bell is None:
            self._bell = self._loop.call_later(self.length_s, self._ring)

    def cancel(self, call: Callable[..., Any]) -> None:
        """Forget a timer, if that has not happened."""
        self._due.pop(call, None)
        if not self._due and self._bell is not None:
            self._bell.cancel()
            self._bell = None

    def _ring(self) -> None:
        self._bell = None
        while self._due:
            call, (at, argument) = next(iter(self._due.items()))
            left_s = at - self._loop.time()
            if left_s > TICK_S:
                self._bell = self._loop.call_later(left_s, self._ring)
                return
            del self._due[call]
            call(argument)
