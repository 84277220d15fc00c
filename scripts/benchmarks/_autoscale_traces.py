"""Requests over time: synthetic ones, and those that a gateway has logged, for `scripts/bench autoscale`."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

DAY_S, WEEK_S = 86400.0, 7 * 86400.0


@dataclass(frozen=True)
class Trace:
    """Arrivals, as a rate or as they were."""

    name: str
    seconds: float
    """How much of it is measured, at its end."""
    rate: Callable[[float], float]
    """Requests a second at a time."""
    before_s: float = 0.0
    """How much there is before that, for those who learn from it."""
    step_s: float = 1.0

    def arrivals(self, seed: int, *, learns: bool) -> list[int]:
        """Return how many requests come in each step; without what is before for who does not learn."""
        drawn = self._drawn(seed)
        return drawn if learns else drawn[int(self.before_s / self.step_s) :]

    @cache  # noqa: B019
    def _drawn(self, seed: int) -> list[int]:
        rng = random.Random(f"{self.name} {seed}")
        steps = int((self.before_s + self.seconds) / self.step_s)
        return [_poisson(rng, self.rate(step * self.step_s) * self.step_s) for step in range(steps)]

    def peak(self, seed: int, *, window_s: float = 300.0) -> float:
        """Return the highest rate of what is measured over a window."""
        arrivals, size = self.arrivals(seed, learns=False), int(window_s / self.step_s)
        parts = [arrivals[at : at + size] for at in range(0, len(arrivals), size)]
        return max(sum(part) / (len(part) * self.step_s) for part in parts if part)

    def mean(self, seed: int) -> float:
        """Return the mean rate of what is measured."""
        return sum(self.arrivals(seed, learns=False)) / self.seconds


class Recorded(Trace):
    """Arrivals as they were: `rate` is not used."""

    def __init__(self, name: str, counts: Sequence[int], step_s: float):
        super().__init__(name, len(counts) * step_s, lambda time: 0.0, step_s=step_s)
        object.__setattr__(self, "_counts", list(counts))

    def arrivals(self, seed: int, *, learns: bool) -> list[int]:
        """Return them; every seed has the same."""
        counts: list[int] = self._counts  # type: ignore[attr-defined]
        return counts


def recorded(path: Path, *, expert: str = "", step_s: float = 1.0) -> Recorded:
    """Return the requests of a gateway's log: when each one came is when its line was written, less its duration.

    Raises ValueError where there are none.
    """
    times = []
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            if '"request"' not in line:
                continue
            said = json.loads(line)
            if said.get("message") != "request" or not said.get("expert") or expert not in ("", said["expert"]):
                continue
            ended = datetime.fromisoformat(said["time"]).timestamp()
            times.append(ended - said["duration_ms"] / 1000)
    if not times:
        raise ValueError(f"{path} has no request of {expert or 'any expert'}")
    begin = min(times)
    counts = [0] * (int((max(times) - begin) / step_s) + 1)
    for time in times:
        counts[int((time - begin) / step_s)] += 1
    return Recorded(f"{path.name}{f' ({expert})' if expert else ''}", counts, step_s)


def synthetic() -> list[Trace]:
    """Return the traces that are made up."""
    return [
        Trace("week, daily peaks", WEEK_S, _week, before_s=3 * WEEK_S, step_s=2.0),
        Trace("office hours, quiet nights", WEEK_S, _office, before_s=3 * WEEK_S, step_s=2.0),
        Trace("flash crowd", 4 * 3600, _flash),
        Trace("step", 4 * 3600, lambda time: 5.0 if time < 3600 else 20.0),
        Trace("on and off", 6 * 3600, lambda time: 20.0 if time % 900 < 300 else 2.0),
        Trace("bursts at random", DAY_S, _bursts),
    ]


def _week(time: float) -> float:
    """Return 2 to 30 requests a second: a peak at two in the afternoon, and 40 % of it at weekends; each day and week
    differs by up to a fifth."""
    hour, day = time % DAY_S / 3600, int(time // DAY_S)
    shape = max(0.0, math.cos((hour - 14) / 24 * 2 * math.pi)) ** 1.5
    scale = 0.4 if day % 7 in (5, 6) else 1.0
    return 2.0 + 28.0 * scale * shape * (0.8 + 0.4 * _chance(day))


def _office(time: float) -> float:
    """Return 3 to 10 requests a second from nine to six on weekdays, and one in two hours otherwise."""
    hour, day = time % DAY_S / 3600, int(time // DAY_S)
    if day % 7 in (5, 6) or not 9 <= hour < 18:
        return 1 / 7200
    return 3.0 + 7.0 * math.sin((hour - 9) / 9 * math.pi) * (0.8 + 0.4 * _chance(day))


def _flash(time: float) -> float:
    """Return 5 requests a second, and 30 for twenty minutes that begin within one."""
    since = time - 5400
    if not 0 <= since < 1200:
        return 5.0
    return 5.0 + 25.0 * min(1.0, since / 60)


def _bursts(time: float) -> float:
    """Return another rate every three minutes, most of them low and some high (log-normal, at most 30)."""
    return min(30.0, math.exp(1.4 + 0.9 * _normal(int(time // 180))))


@cache
def _chance(number: int) -> float:
    return random.Random(number).random()


@cache
def _normal(number: int) -> float:
    return random.Random(number).gauss()


def _poisson(rng: random.Random, mean: float) -> int:
    if mean > 30:
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    limit, product, count = math.exp(-mean), rng.random(), 0
    while product > limit:
        product *= rng.random()
        count += 1
    return count
