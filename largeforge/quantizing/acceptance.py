"""Is a quantized model worth taking instead of the original? Pure: plain numbers in, a verdict with its table out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from largeforge.judging.intervals import LEAST_ROWS, of_difference
from largeforge.judging.series import Series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from largeforge.recipe.quantization import Acceptance

COLUMNS = ("what", "original", "quantized", "found", "must be", "verdict")


@dataclass(frozen=True)
class Side:
    """What was measured of one model."""

    size_bytes: float
    """Weights on disk."""
    memory_bytes: float
    """Weights on the GPU, or the whole server on a CPU."""
    tokens_per_s: tuple[float, ...]
    """Generated tokens a second, round by round; the n-th rounds of both models stood beside each other."""
    scores: tuple[float, ...]
    """Log-probability of the right answer in nats a token, prompt by prompt."""


@dataclass(frozen=True)
class Measured:
    """Two models beside each other."""

    original: Side
    quantized: Side
    agreement: float
    """Share of prompts that both answer word for word the same."""
    at_load: bool = False
    """Whether it is quantized only as it is loaded, so that the files are as large as before."""


@dataclass(frozen=True)
class Finding:
    """One thing that was asked of the quantized model."""

    what: str
    original: str
    quantized: str
    found: str
    rule: str
    is_met: bool

    def row(self) -> list[str]:
        """Return it as a row under `COLUMNS`."""
        return [
            self.what, self.original, self.quantized, self.found, self.rule, "met" if self.is_met else "NOT met",
        ]  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """Whether the quantized model takes the place of the original, and why."""

    findings: tuple[Finding, ...]

    @property
    def accepted(self) -> bool:
        """Whether everything that was asked is met."""
        return all(finding.is_met for finding in self.findings)

    @property
    def refusal(self) -> str:
        """What is not met, in one line; empty when all is."""
        return "; ".join(f"{one.what} is {one.found}, must be {one.rule}" for one in self.findings if not one.is_met)

    def table(self) -> list[list[str]]:
        """Return the findings as rows under `COLUMNS`."""
        return [finding.row() for finding in self.findings]

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as plain data."""
        return {"accepted": self.accepted, "columns": list(COLUMNS), "rows": self.table()}


def accepts(measured: Measured, rules: Acceptance) -> Verdict:
    """Judge what was measured; what is not a number is never good enough."""
    findings = [_quality(measured, rules), _speed(measured, rules), _memory(measured, rules)]
    if not measured.at_load:
        findings.append(_size(measured, rules))
    if rules.min_agreement:
        found, floor = measured.agreement, rules.min_agreement
        findings.append(Finding("same answers", "", "", f"{found:.1%}", f">= {floor:.1%}", found >= floor))
    return Verdict(tuple(findings))


def difference(original: Sequence[float], quantized: Sequence[float], confidence: float) -> tuple[float, float]:
    """Return how much the paired scores rose on average, and what that rise is at least, at a confidence."""
    if not all(map(math.isfinite, (*original, *quantized))):
        return -math.inf, -math.inf
    found = of_difference(Series(quantized), Series(original), confidence=2 * confidence - 1)  # only one end counts
    return found.value, found.low


def surely_above(values: Sequence[float], confidence: float) -> float:
    """Return what the median of such values is surely above: an order statistic, whatever their distribution.

    The k-th smallest of n lies above the median with the probability that fewer than k of n fair coins show heads
    (Conover, Practical Nonparametric Statistics (1999), 3.2). Minus infinity where there are too few.
    """
    tail, bound = 0.0, -math.inf
    for k, value in enumerate(sorted(values)):
        tail += math.comb(len(values), k) / 2 ** len(values)
        if tail > 1 - confidence:
            break
        bound = value
    return bound


def _quality(measured: Measured, rules: Acceptance) -> Finding:
    before, after = measured.original.scores, measured.quantized.scores
    mean, low = difference(before, after, rules.confidence)
    rows = len(before)
    few = f" (too few rows: {rows})" if rows < LEAST_ROWS else f" (at least {low:+.4f}, {rows} rows)"
    rule = f">= {-rules.margin:g} at least"
    old, new = _mean(before), _mean(after)
    return Finding("nats a token", old, new, f"{mean:+.4f}{few}", rule, low >= -rules.margin)


def _speed(measured: Measured, rules: Acceptance) -> Finding:
    before, after = measured.original.tokens_per_s, measured.quantized.tokens_per_s
    ratios = [quick / slow for slow, quick in zip(before, after, strict=True) if slow > 0]
    low = surely_above(ratios, rules.confidence)
    found = f"{median(ratios):.2f} ×" if ratios else "unknown"
    sure = f"at least {low:.2f}, {len(ratios)} rounds" if math.isfinite(low) else f"too few rounds: {len(ratios)}"
    old, new = (f"{median(rates):.0f}" if rates else "" for rates in (before, after))
    least = rules.min_speed_ratio
    return Finding("tokens/s", old, new, f"{found} ({sure})", f"> {least:g} at least", low > least)


def _mean(scores: Sequence[float]) -> str:
    return f"{fmean(scores):.4f}" if scores else ""


def _memory(measured: Measured, rules: Acceptance) -> Finding:
    return _smaller("memory", measured.original.memory_bytes, measured.quantized.memory_bytes, rules.max_memory_ratio)


def _size(measured: Measured, rules: Acceptance) -> Finding:
    return _smaller("size on disk", measured.original.size_bytes, measured.quantized.size_bytes, rules.max_size_ratio)


def _smaller(what: str, before: float, after: float, most: float) -> Finding:
    ratio = after / before if before > 0 else math.nan
    return Finding(what, _bytes(before), _bytes(after), f"{ratio:.3f} ×", f"< {most:g}", ratio < most)


def _bytes(size: float) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.2f} MiB"
