"""Traffic of a canary and of stable with planted regressions, period by period, for `scripts/bench rollout`."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from largeforge.gateway.metrics import DURATION_BUCKETS
from largeforge.rollout import Arm, Graded, Histogram, Observation

if TYPE_CHECKING:
    from numpy.random import Generator

FINE = tuple(round(0.05 * 1.12**power, 4) for power in range(60))
"""Edges of times that are 12 % apart, beside the gateway's own."""
SIGMA, MEDIAN_S = 0.5, 0.4
TTFT_SIGMA, TTFT_MEDIAN_S = 0.4, 0.08
JUDGED, STRUCTURED, THUMBED = 0.1, 0.3, 0.01
"""Shares of the requests that are judged, whose answers have a schema, and that somebody gives a thumb."""
JUDGED_WRONG, INVALID, THUMBS_DOWN = 0.1, 0.002, 0.2
"""Shares of these that are bad at stable."""
USERS = 5000
"""Who always get the same side, all as likely to ask."""


@dataclass(frozen=True)
class Scenario:
    """Traffic, and what is wrong with the canary from some time on."""

    name: str
    errors: float = 0.001
    """Stable's share of errors."""
    canary_errors: float | None = None
    slower: float = 1.0
    """How many times as long the canary takes."""
    wrong: float = 0.0
    """Share of answers that are right at stable and wrong at the canary."""
    from_s: float = 0.0
    day: bool = False
    """Whether load, times and errors rise and fall, as a day would, but within 40 minutes."""
    outage: bool = False
    """Whether a minute in which a third of all requests fail, and all take three times as long, hits both."""
    unlucky: float = 0.0
    """Share of users of whose requests 40 % fail, whoever answers them; they always get the same side."""
    rate: float = 20.0
    """Requests per second, of both together."""
    clustering: float = 1.0
    """What `analysis.clustering` is set to."""
    fine: bool = False
    """Whether times are counted in fine buckets instead of the gateway's."""

    @property
    def is_null(self) -> bool:
        """Whether nothing is wrong with the canary."""
        return self.canary_errors is None and self.slower == 1 and not self.wrong

    @property
    def is_promised(self) -> bool:
        """Whether the defaults promise something of it: few false alarms, or 5 % of errors found soon."""
        return self.canary_errors == 0.05 or (self.is_null and not self.unlucky and not self.fine)


@dataclass
class Traffic:
    """One replay of a scenario; equal seeds give equal traffic for equal shares."""

    scenario: Scenario
    seed: int
    random: Generator = field(init=False)
    exposed: dict[float, float] = field(default_factory=dict)
    """By share at which users came in, how many requests each of them has had."""

    def __post_init__(self) -> None:
        import numpy

        self.random = numpy.random.default_rng(self.seed)
        self._outage_s = random.Random(self.seed).uniform(60, 1500)
        self._edges = FINE if self.scenario.fine else DURATION_BUCKETS
        unlucky = round(USERS * self.scenario.unlucky)
        self._unlucky_ranks = sorted(random.Random(self.seed + 1).random() for _ in range(unlucky))

    def before(self, seconds: float) -> Arm:
        """Return what stable did for a time before the rollout."""
        return self._arm(int(seconds * self.scenario.rate), -seconds, 0.0, canary=False)

    def period(self, now: float, seconds: float, share: float) -> Observation:
        """Return what is observed of both in the next seconds."""
        load = self._load(now)
        total = int(self.random.poisson(self.scenario.rate * load * seconds))
        canary = int(self.random.binomial(total, share))
        if canary and share:
            self.exposed.setdefault(share, 0.0)
            for since in self.exposed:
                self.exposed[since] += canary / (share * USERS)
        return Observation(
            self._arm(canary, now, share, canary=True), self._arm(total - canary, now, share, canary=False)
        )

    @property
    def users(self) -> float:
        """How many users a new model has answered, on average over who asks."""
        known, users = 0.0, 0.0
        for share, requests in sorted(self.exposed.items()):
            users += (share - known) * USERS * (1 - math.exp(-requests))
            known = share
        return users

    def _arm(self, requests: int, now: float, share: float, *, canary: bool) -> Arm:
        scenario, wrong = self.scenario, canary and now >= self.scenario.from_s
        out = scenario.outage and 0 <= now - self._outage_s < 60
        load = self._load(now)
        errors = (scenario.canary_errors if wrong else None) or scenario.errors
        errors = 0.33 if out else errors * load
        errors += 0.4 * self._unlucky(share, canary=canary)
        times = load**0.3 * (3 if out else 1) * (scenario.slower if wrong else 1)
        more = scenario.wrong if wrong else 0.0
        return Arm(
            requests,
            self._binomial(requests, min(errors, 1.0)),
            self._histogram(requests, MEDIAN_S * times, SIGMA),
            self._histogram(requests, TTFT_MEDIAN_S * times, TTFT_SIGMA),
            schema_valid=self._graded(requests, STRUCTURED, INVALID),
            judge=self._graded(requests, JUDGED, JUDGED_WRONG + (1 - JUDGED_WRONG) * more),
            thumbs=self._graded(requests, THUMBED, THUMBS_DOWN + (1 - THUMBS_DOWN) * more),
        )

    def _load(self, now: float) -> float:
        return 1 + 0.8 * math.sin(2 * math.pi * now / 2400) if self.scenario.day else 1.0

    def _unlucky(self, share: float, *, canary: bool) -> float:
        """Return the share of unlucky users among those of a side."""
        if not self._unlucky_ranks:
            return 0.0
        ours = sum(rank < share for rank in self._unlucky_ranks)
        users = USERS * (share if canary else 1 - share)
        return (ours if canary else len(self._unlucky_ranks) - ours) / users if users else 0.0

    def _binomial(self, total: int, share: float) -> int:
        return int(self.random.binomial(total, share)) if total else 0

    def _graded(self, requests: int, seen: float, bad: float) -> Graded:
        total = self._binomial(requests, seen)
        return Graded(total - self._binomial(total, bad), total)

    def _histogram(self, requests: int, median: float, sigma: float) -> Histogram:
        counts: Any = self.random.multinomial(requests, _lognormal(self._edges, median, sigma))
        return Histogram(self._edges, tuple(counts.tolist()))


_KNOWN: dict[tuple[tuple[float, ...], float, float], list[float]] = {}


def _lognormal(edges: tuple[float, ...], median: float, sigma: float) -> list[float]:
    """Return the shares of times between edges."""
    key = (edges, round(median, 4), sigma)
    if key not in _KNOWN:
        normal = NormalDist(math.log(key[1]), sigma)
        below = [0.0, *(normal.cdf(math.log(edge)) for edge in edges), 1.0]
        _KNOWN[key] = [high - low for low, high in pairwise(below)]
    return _KNOWN[key]
