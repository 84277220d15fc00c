"""What a worker tells its parent, as events on its standard output, and how the parent tells it on for all of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from largeforge.events import Events
    from largeforge.gateway.notify import Notifier


class ToParent:
    """The parent of a worker, as who is told how it is."""

    def __init__(self, events: Events, *, beat_s: float):
        self.beat_s = beat_s
        self._events = events

    def ready(self) -> None:
        """Tell that it serves what it was told to."""
        self._events.emit("ready")

    def reloading(self) -> None:
        """Tell that it takes up another configuration."""
        self._events.emit("reloading")

    def stopping(self, within_s: float) -> None:
        """Tell nothing: the parent has said so, and knows."""

    def alive(self, status: str) -> None:
        """Tell that it is alive, and how it is in a line for people."""
        self._events.emit("alive", status=status)


class Pulse:
    """Whether all workers are alive, for the service manager: it hears of none where one is silent."""

    def __init__(self, notifier: Notifier, *, clock: Callable[[], float] = time.monotonic):
        self._notifier = notifier
        self._clock = clock
        self._heard_at: dict[int, float] = {}
        self._status = ""

    @property
    def beat_s(self) -> float:
        """How often workers tell that they are alive: twice for each time that it is told on."""
        return self._notifier.beat_s / 2

    def hear(self, worker: int, status: str) -> None:
        """Note a sign of life."""
        self._heard_at[worker] = self._clock()
        self._status = status

    def forget(self, worker: int) -> None:
        """Wait for no sign of a worker that has ended; whoever started it starts it again."""
        self._heard_at.pop(worker, None)

    def tell(self) -> None:
        """Tell the service manager, unless a worker is silent."""
        longest_s = self._notifier.watchdog_s / 2
        oldest = min(self._heard_at.values(), default=None)
        if oldest is not None and (not longest_s or self._clock() - oldest <= longest_s):
            self._notifier.alive(self._status)
