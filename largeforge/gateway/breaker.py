"""A circuit breaker: a server that fails again and again is left alone, then tried with one request.

Closed, every request may go. After so many failures in a row it opens, and no request may. When its time is over it is
half open: one request may go as a trial. A trial that succeeds closes it, one that fails opens it for twice as long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from largeforge.recipe.sections.resilience import Breaker as Settings

State = Literal["closed", "open", "half-open"]


class Breaker:
    """The breaker of one server; every `begin` is followed by `succeeded`, `failed` or `dropped`, and a stream's first
    byte by `streams` before that."""

    def __init__(self, settings: Settings, clock: Callable[[], float]):
        self.settings = settings
        self._clock = clock
        self._failures = 0
        self._open_until = 0.0
        self._open_s = 0.0
        self._on_trial = False

    @property
    def state(self) -> State:
        """What it is now."""
        if not self._open_s:
            return "closed"
        return "half-open" if self._clock() >= self._open_until else "open"

    @property
    def lets_through(self) -> bool:
        """Whether a request may go."""
        return not self._open_s or (not self._on_trial and self._clock() >= self._open_until)

    def begin(self) -> None:
        """Note that a request goes."""
        if self._open_s:
            self._on_trial = True

    def streams(self) -> None:
        """Note that a stream has begun: others may go; failures before it still count should it break off."""
        self._open_s = 0.0
        self._on_trial = False

    def succeeded(self) -> None:
        """Note that a request was answered to its end."""
        self._failures = 0
        self._open_s = 0.0
        self._on_trial = False

    def failed(self) -> None:
        """Note that a request was not answered, or with an error of the server."""
        if self._open_s and not self._on_trial:
            return  # it was under way when the breaker opened
        self._failures += 1
        if self._on_trial or self._failures >= self.settings.failures:
            self._open_s = min(2 * self._open_s or self.settings.open_s, self.settings.most_open_s)
            self._open_until = self._clock() + self._open_s
            self._on_trial = False

    def dropped(self) -> None:
        """Note that a request ended without saying anything about the server, such as one whose client left."""
        self._on_trial = False
