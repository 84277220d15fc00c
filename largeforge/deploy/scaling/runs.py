"""How often servers have failed to start in a row.

systemd counts all restarts of a unit until somebody starts it anew: a server that was started again now and then over
months has as many as one that fails again and again. Those that it has run well after do not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

STEADY_S = 60.0
"""Time after which a server that runs has started well. One that ends sooner, such as at its first request, has not."""


@dataclass
class Runs:
    """What looks tell of the restarts of units."""

    _active: dict[str, tuple[int, float]] = field(default_factory=dict)
    """By unit that is active, its restarts, and since when it is seen with them."""
    _steady: dict[str, int] = field(default_factory=dict)

    def observe(self, looks: Mapping[str, Mapping[str, Any]], now: float) -> None:
        """Take in one look more."""
        for told in (told for look in looks.values() for told in look["servers"].values()):
            unit, restarts = told["unit"], told["restarts"]
            if restarts < self._steady.get(unit, 0):  # it was started anew
                del self._steady[unit]
            if told["state"] != "active":
                self._active.pop(unit, None)
                continue
            known, since = self._active.get(unit, (-1, now))
            self._active[unit] = (restarts, since if known == restarts else now)
            if now - self._active[unit][1] >= STEADY_S:
                self._steady[unit] = restarts

    @property
    def steady(self) -> Mapping[str, int]:
        """Restarts of units that they have run well after."""
        return self._steady
