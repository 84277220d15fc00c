"""Whether a server meets what is asked of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from largeforge.estimate.ranges import Range, exactly

if TYPE_CHECKING:
    from largeforge.estimate.throughput import Load, Speed

Answer = Literal["met", "likely", "unlikely", "missed"]


@dataclass(frozen=True)
class Finding:
    """One target and what the server is estimated to do."""

    target: str
    """Name of the field of `serving.targets`."""
    wanted: float
    found: Range
    at_least: bool = True
    """Whether more is better."""

    @property
    def answer(self) -> Answer:
        """`met` and `missed` over the whole range; in between by what is expected."""
        worst, best = (self.found.low, self.found.high) if self.at_least else (self.found.high, self.found.low)
        if self._reaches(worst):
            return "met"
        if not self._reaches(best):
            return "missed"
        return "likely" if self._reaches(self.found.expected) else "unlikely"

    def _reaches(self, value: float) -> bool:
        return value >= self.wanted if self.at_least else value <= self.wanted


def check(speed: Speed, load: Load, *, ttft_p95_ms: float = 0.0, tokens_per_second: float = 0.0) -> list[Finding]:
    """Return a finding for each target that is not 0; a load that cannot be carried misses all of them."""
    findings = []
    if load.requests_per_second:
        findings.append(Finding("requests_per_second", load.requests_per_second, speed.requests_per_second(load)))
    state = speed.under(load)
    if ttft_p95_ms:
        found = state.ttft_p95_s * 1000 if state else exactly(float("inf"))
        findings.append(Finding("ttft_p95_ms", ttft_p95_ms, found, at_least=False))
    if tokens_per_second:
        found = state.tokens_per_second if state else exactly(0.0)
        findings.append(Finding("tokens_per_second", tokens_per_second, found))
    return findings
