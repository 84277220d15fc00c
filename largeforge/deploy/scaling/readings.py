"""What gateways measure of experts, from their metrics at two looks. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from largeforge.monitoring import names
from largeforge.monitoring.indicators import HISTOGRAMS

WINDOW_S = 120.0
"""Over which percentiles are taken."""
METRICS = (names.WAITING, f"{names.REQUESTS}{{", *(f"{histogram}_bucket" for histogram in HISTOGRAMS.values()))
"""Beginnings of the lines that are read."""
_LINE = re.compile(r"^([a-zA-Z_:][\w:]*)\{(.*)\} (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Series = tuple[str, str, str]
"""Host of the gateway, name of the metric, its labels as they were written."""


@dataclass(frozen=True)
class Reading:
    """All gateways at one look."""

    time: float
    values: Mapping[Series, float]

    def waiting(self, experts: Collection[str]) -> float:
        """Return how many requests wait for experts."""
        return sum(value for _, value in self._of(names.WAITING, experts))

    def ended(self, experts: Collection[str], before: Reading) -> float:
        """Return how many requests of experts have ended since another reading."""
        return sum(self._since(series, before) for series, _ in self._of(names.REQUESTS, experts))

    def quantile_ms(self, indicator: str, share: float, experts: Collection[str], before: Reading) -> float | None:
        """Return a percentile of the times since another reading, None where there was no request.

        Within a bucket they are taken to be spread evenly, as Prometheus' histogram_quantile takes them.
        """
        buckets: dict[float, float] = {}
        for series, _ in self._of(f"{HISTOGRAMS[indicator]}_bucket", experts):
            edge = float(_labels(series)["le"])
            buckets[edge] = buckets.get(edge, 0.0) + self._since(series, before)
        edges = sorted(buckets)
        wanted = share * buckets[edges[-1]] if edges else 0.0
        if not wanted:
            return None
        low_edge, low = 0.0, 0.0
        for edge in edges:
            if buckets[edge] >= wanted:
                if math.isinf(edge):
                    return 1000 * low_edge
                return 1000 * (low_edge + (edge - low_edge) * (wanted - low) / (buckets[edge] - low))
            low_edge, low = edge, buckets[edge]
        return 1000 * low_edge

    def _of(self, name: str, experts: Collection[str]) -> Iterator[tuple[Series, float]]:
        for series, value in self.values.items():
            if series[1] == name and _labels(series).get("expert") in experts:
                yield series, value

    def _since(self, series: Series, before: Reading) -> float:
        """Return what a counter has counted since; a gateway that was started anew counts from 0."""
        now, then = self.values[series], before.values.get(series, 0.0)
        return now - then if now >= then else now


def reading(time: float, pages: Mapping[str, str]) -> Reading:
    """Return what the pages of gateways say, by host."""
    values: dict[Series, float] = {}
    for host, text in pages.items():
        for line in text.splitlines():
            if found := _LINE.match(line):
                values[host, found[1], found[2]] = float(found[3])
    return Reading(time, values)


def within(readings: Collection[Reading], now: float, *, window_s: float = WINDOW_S) -> list[Reading]:
    """Return the readings of a window, the oldest first, and the newest one from before it."""
    ordered = sorted(readings, key=lambda one: one.time)
    before = [one for one in ordered if one.time < now - window_s]
    return [*before[-1:], *(one for one in ordered if one.time >= now - window_s)]


def _labels(series: Series) -> dict[str, str]:
    return dict(_LABEL.findall(series[2]))
