"""What the gateway's counters say, as plain numbers that can be subtracted, added, and sent to another worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from largeforge.gateway.metrics import Metrics


@dataclass
class Counts:
    """The requests of one expert; histograms are counts by bucket, each without those before it."""

    requests: float = 0
    failed: float = 0
    """Those with a status of 500 or more."""
    refused: float = 0
    """Those with another status of 400 or more: mistakes of clients, and clients that left."""
    prompt: float = 0
    completion: float = 0
    """Tokens."""
    duration: list[float] = field(default_factory=list)
    ttft: list[float] = field(default_factory=list)
    inter_token: list[float] = field(default_factory=list)
    quality: dict[str, list[float]] = field(default_factory=dict)
    """Good and bad ones by signal."""

    def plus(self, other: Counts, sign: int = 1) -> Counts:
        """Return the sum, or the difference, of which nothing is below 0: counters may have begun anew between."""
        return Counts(
            requests=max(0.0, self.requests + sign * other.requests),
            failed=max(0.0, self.failed + sign * other.failed),
            refused=max(0.0, self.refused + sign * other.refused),
            prompt=max(0.0, self.prompt + sign * other.prompt),
            completion=max(0.0, self.completion + sign * other.completion),
            duration=_added(self.duration, other.duration, sign),
            ttft=_added(self.ttft, other.ttft, sign),
            inter_token=_added(self.inter_token, other.inter_token, sign),
            quality={
                signal: _added(self.quality.get(signal, []), other.quality.get(signal, []), sign)
                for signal in {**self.quality, **other.quality}
            },
        )


@dataclass
class Reading:
    """All counters at one moment, or what came between two."""

    experts: dict[str, Counts] = field(default_factory=dict)
    fallbacks: float = 0
    """Requests that another expert answered than the chosen one."""

    def plus(self, other: Reading, sign: int = 1) -> Reading:
        """Return the sum, or the difference."""
        nothing = Counts()
        return Reading(
            {
                name: self.experts.get(name, nothing).plus(other.experts.get(name, nothing), sign)
                for name in {**self.experts, **other.experts}
            },
            max(0.0, self.fallbacks + sign * other.fallbacks),
        )

    def together(self) -> Counts:
        """Return the counts of all experts, and of what none was chosen for."""
        total = Counts()
        for counts in self.experts.values():
            total = total.plus(counts)
        return total

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    @classmethod
    def of_json(cls, given: Mapping[str, Any]) -> Reading:
        """Return what another worker sent."""
        return cls({name: Counts(**counts) for name, counts in given["experts"].items()}, given["fallbacks"])


def read(metrics: Metrics) -> Reading:
    """Return what the counters say now; on the event loop this takes some 50 µs for each expert."""
    found = Reading()
    for one in metrics.series():
        own = Counts(duration=_buckets(one.duration))
        for status, counter in one.statuses.items():
            number = _value(counter)
            own.requests += number
            own.failed += number if status >= 500 else 0
            own.refused += number if 400 <= status < 500 else 0
        if one.has_expert:
            own.prompt, own.completion = _value(one.prompt), _value(one.completion)
            own.ttft, own.inter_token = _buckets(one.first_token), _buckets(one.inter_token)
        before = found.experts.get(one.of[0])
        found.experts[one.of[0]] = before.plus(own) if before else own
    for (expert, _, signal, good), counter in _children(metrics.quality):
        judged = found.experts.setdefault(expert, Counts()).quality.setdefault(signal, [0.0, 0.0])
        judged[good == "false"] += _value(counter)
    found.fallbacks = sum(_value(counter) for _, counter in _children(metrics.fallbacks))
    return found


def totals(metrics: Metrics) -> tuple[float, float, float]:
    """Return requests, failed ones and tokens of answers of all experts, which is quick enough for every second."""
    requests = failed = tokens = 0.0
    for one in metrics.series():
        for status, counter in one.statuses.items():
            number = _value(counter)
            requests += number
            failed += number if status >= 500 else 0
        tokens += _value(one.completion) if one.has_expert else 0
    return requests, failed, tokens


# prometheus_client shows numbers only as samples, which are some hundred times as slow to make; a test holds these.
def _value(counter: Any) -> float:
    return float(counter._value.get())


def _buckets(histogram: Any) -> list[float]:
    return [float(bucket.get()) for bucket in histogram._buckets]


def _children(metric: Any) -> list[tuple[tuple[str, ...], Any]]:
    return list(metric._metrics.items())


def _added(own: list[float], other: list[float], sign: int) -> list[float]:
    if not other:
        return list(own)
    return [max(0.0, one + sign * two) for one, two in zip(own or [0.0] * len(other), other, strict=True)]
