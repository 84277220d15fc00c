"""What weeks before have needed at the same hour of the week.

For each of the 168 hours of a week the highest five minutes of the last weeks are kept, and what is expected is their
mean, each week counting half of the one after it. That use of language models repeats by hour and weekday, so that
starts can be ahead of it by more than a model takes to load: Jaiswal et al., SageServe, 2025 (arXiv:2502.14617). Hours
are UTC's: in the week after clocks are changed, peaks come an hour off. An hour that nothing is known of has no
forecast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from largeforge.autoscale.reading import number

HOUR_S = 3600
SLOT_S = 300
WEEK_H = 168
DECAY = 0.5
"""What a week counts beside the week after it."""


@dataclass(frozen=True)
class History:
    """Demand by hour of the week: requests in flight and waiting."""

    hours: Mapping[int, tuple[tuple[int, float], ...]] = field(default_factory=dict)
    """By hour of the week, the week and its highest five minutes, the newest last."""
    hour: int = -1
    """The hour that is going on, since the epoch."""
    high: float = 0.0
    """Its highest five minutes until now."""
    slot: int = -1
    """The five minutes that are going on."""
    total: float = 0.0
    looks: int = 0

    def observed(self, demand: float, now: float, *, weeks: int) -> History:
        """Return it with one look more."""
        slot, hour = int(now // SLOT_S), int(now // HOUR_S)
        if slot == self.slot:
            return replace(self, total=self.total + demand, looks=self.looks + 1)
        high = max(self.high, self.total / self.looks) if self.looks else self.high
        begun = replace(self, hour=hour, slot=slot, total=demand, looks=1, high=high)
        if hour == self.hour:
            return begun
        return replace(begun, high=0.0, hours=self._with(high, weeks) if self.hour >= 0 else self.hours)

    def expected(self, begin: float, end: float) -> float | None:
        """Return the highest demand that is expected between two times; None where nothing is known."""
        found = [self._of(hour) for hour in range(int(begin // HOUR_S), int(end // HOUR_S) + 1)]
        return max((demand for demand in found if demand is not None), default=None)

    def as_json(self) -> dict[str, Any]:
        """Return it for JSON."""
        hours = {str(hour): [list(one) for one in found] for hour, found in self.hours.items()}
        return {
            "hours": hours, "hour": self.hour, "high": self.high, "slot": self.slot, "total": self.total,
            "looks": self.looks,
        }  # fmt: skip

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> History:
        """Return what `as_json` gave."""
        hours = {
            int(hour): tuple((int(number(week)), number(high)) for week, high in of)
            for hour, of in found["hours"].items()
        }
        hour, slot, looks = (int(number(found[name])) for name in ("hour", "slot", "looks"))
        return cls(hours, hour, number(found["high"]), slot, number(found["total"]), looks)

    def _with(self, high: float, weeks: int) -> dict[int, tuple[tuple[int, float], ...]]:
        week, at = divmod(self.hour, WEEK_H)
        known = (*self.hours.get(at, ()), (week, high))
        return {**self.hours, at: tuple(one for one in known if one[0] > week - weeks)}

    def _of(self, hour: int) -> float | None:
        this, at = divmod(hour, WEEK_H)
        weights = [(DECAY ** (this - week), high) for week, high in self.hours.get(at, ()) if week < this]
        total = sum(weight for weight, _ in weights)
        return sum(weight * high for weight, high in weights) / total if total else None
