"""What was observed of the canary and of stable in one period, and how that is kept as JSON. Pure.

A period has what was counted since the period before. Who has counters that only rise takes the difference of two
readings (`Arm.since`), which notices that a counter began anew.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from largeforge.rollout.sequential import Counts

SIGNALS = ("schema_valid", "agreement", "judge", "thumbs")
"""Signals of quality: an answer is good or it is not."""


@dataclass(frozen=True)
class Histogram:
    """How many requests took up to each edge, and longer than the one before; the last count is beyond all edges."""

    edges: tuple[float, ...]
    """In seconds, rising."""
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.edges) + 1 or list(self.edges) != sorted(set(self.edges)) or not self.edges:
            raise ValueError(
                f"a histogram of {len(self.edges)} rising edges has one count more, not {len(self.counts)}"
            )
        if min(self.counts) < 0:
            raise ValueError(f"counts of a histogram are not negative: {list(self.counts)}")

    @classmethod
    def of_cumulative(cls, edges: Sequence[float], counts: Sequence[int]) -> Histogram:
        """Return the histogram of what Prometheus' buckets hold: requests up to each edge, and at the end all."""
        single = [count - before for count, before in zip(counts, (0, *counts), strict=False)]
        return cls(tuple(edges), tuple(single))

    @classmethod
    def of_times(cls, edges: Sequence[float], times_s: Sequence[float]) -> Histogram:
        """Return the histogram of times."""
        counts = [0] * (len(edges) + 1)
        for time_s in times_s:
            counts[next((index for index, edge in enumerate(edges) if time_s <= edge), len(edges))] += 1
        return cls(tuple(edges), tuple(counts))

    @property
    def total(self) -> int:
        """How many requests there were."""
        return sum(self.counts)

    def slower(self, edge: int) -> Counts:
        """Return how many requests took longer than the edge of an index."""
        return Counts(sum(self.counts[edge + 1 :]), self.total)

    def edge_from(self, limit_s: float) -> int | None:
        """Return the index of the smallest edge that is not below a limit; None where all are."""
        return next((index for index, edge in enumerate(self.edges) if edge >= limit_s), None)

    def edge_near(self, share: float) -> int | None:
        """Return the index of the edge that a share nearest to the given one is slower than, by the ratio of both; None
        where no edge has from a tenth to ten times as many."""
        left = total = self.total
        nearest, found = 10.0, None
        for index, count in enumerate(self.counts[:-1]):
            left -= count
            far = max(left / total / share, share * total / left) if left else math.inf
            if far < nearest:
                nearest, found = far, index
        return found

    def __add__(self, other: Histogram) -> Histogram:
        if self.edges != other.edges:
            raise ValueError(f"histograms with other edges cannot be added: {self.edges} and {other.edges}")
        return Histogram(self.edges, tuple(map(sum, zip(self.counts, other.counts, strict=True))))


@dataclass(frozen=True)
class Graded:
    """How many answers were judged by a signal of quality, and how many of them were good."""

    good: int = 0
    total: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.good <= self.total:
            raise ValueError(f"{self.good} good answers of {self.total}: must be between none and all")

    @property
    def counts(self) -> Counts:
        """The same as counts of bad ones."""
        return Counts(self.total - self.good, self.total)

    def __add__(self, other: Graded) -> Graded:
        return Graded(self.good + other.good, self.total + other.total)


@dataclass(frozen=True)
class Arm:
    """What was counted of one side; a histogram that nobody keeps is None."""

    requests: int = 0
    errors: int = 0
    duration: Histogram | None = None
    ttft: Histogram | None = None
    """Time to first token, of those requests that have one."""
    schema_valid: Graded = Graded()
    agreement: Graded = Graded()
    """Answers compared with those of the other side to the same requests; the canary's, as a rule."""
    judge: Graded = Graded()
    thumbs: Graded = Graded()

    def __post_init__(self) -> None:
        Counts(self.errors, self.requests)

    def __add__(self, other: Arm) -> Arm:
        return Arm(
            self.requests + other.requests,
            self.errors + other.errors,
            _joined(self.duration, other.duration),
            _joined(self.ttft, other.ttft),
            self.schema_valid + other.schema_valid,
            self.agreement + other.agreement,
            self.judge + other.judge,
            self.thumbs + other.thumbs,
        )

    def since(self, before: Arm) -> Arm:
        """Return what rising counters grew by; where one fell they began anew, and all that they hold is new."""
        try:
            return Arm(
                self.requests - before.requests,
                self.errors - before.errors,
                _grown(self.duration, before.duration),
                _grown(self.ttft, before.ttft),
                **{name: _graded_since(getattr(self, name), getattr(before, name)) for name in SIGNALS},
            )
        except ValueError:
            return self

    def as_json(self) -> dict[str, Any]:
        """Return it for JSON; what is empty is left out."""
        found: dict[str, Any] = {"requests": self.requests, "errors": self.errors}
        for name, histogram in (("duration", self.duration), ("ttft", self.ttft)):
            if histogram is not None:
                found[name] = {"edges": list(histogram.edges), "counts": list(histogram.counts)}
        for name in SIGNALS:
            graded: Graded = getattr(self, name)
            if graded.total:
                found[name] = {"good": graded.good, "total": graded.total}
        return found

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Arm:
        """Return what `as_json` gave."""
        times = [
            Histogram(tuple(found[name]["edges"]), tuple(found[name]["counts"])) if name in found else None
            for name in ("duration", "ttft")
        ]
        graded = {name: Graded(found[name]["good"], found[name]["total"]) for name in SIGNALS if name in found}
        return cls(found["requests"], found["errors"], times[0], times[1], **graded)


@dataclass(frozen=True)
class Observation:
    """What was observed of both sides over the same time."""

    canary: Arm = field(default_factory=Arm)
    stable: Arm = field(default_factory=Arm)

    def __add__(self, other: Observation) -> Observation:
        return Observation(self.canary + other.canary, self.stable + other.stable)

    def as_json(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"canary": self.canary.as_json(), "stable": self.stable.as_json()}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Observation:
        """Return what `as_json` gave."""
        return cls(Arm.from_json(found["canary"]), Arm.from_json(found["stable"]))


def period(before: Mapping[Hashable, Observation], now: Mapping[Hashable, Observation]) -> Observation:
    """Return what several processes counted since the reading before, each with counters of its own.

    A process that is seen first begins to be counted there; the counters of one that was started anew began anew. Sums
    over processes cannot be told from that: when one of several begins anew, its sum is not what is new.
    """
    found = Observation()
    for process, counts in now.items():
        if (was := before.get(process)) is not None:
            found += Observation(counts.canary.since(was.canary), counts.stable.since(was.stable))
    return found


def _joined(one: Histogram | None, other: Histogram | None) -> Histogram | None:
    """Return the sum; of histograms with other edges the later one, as nothing else can be said of both."""
    if one is None or other is None:
        return other if one is None else one
    return one + other if one.edges == other.edges else other


def _grown(now: Histogram | None, before: Histogram | None) -> Histogram | None:
    if now is None or before is None or now.edges != before.edges:
        return now
    return Histogram(now.edges, tuple(count - was for count, was in zip(now.counts, before.counts, strict=True)))


def _graded_since(now: Graded, before: Graded) -> Graded:
    return Graded(now.good - before.good, now.total - before.total)
