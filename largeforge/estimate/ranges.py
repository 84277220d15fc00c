"""A number that is not known exactly: what to expect, and between what it will lie."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """Three values of one quantity, in ascending order."""

    low: float
    expected: float
    high: float

    def __post_init__(self) -> None:
        assert self.low <= self.expected <= self.high, self

    def __add__(self, other: Range | float) -> Range:
        if isinstance(other, Range):
            return Range(self.low + other.low, self.expected + other.expected, self.high + other.high)
        return Range(self.low + other, self.expected + other, self.high + other)

    def __mul__(self, factor: float) -> Range:
        """Scale by a factor that is not negative."""
        return Range(self.low * factor, self.expected * factor, self.high * factor)

    def divides(self, amount: float) -> Range:
        """Return `amount` per each value: rates as durations, and durations as rates."""
        return Range(amount / self.high, amount / self.expected, amount / self.low)

    def as_list(self) -> list[float]:
        """Return low, expected and high with four significant digits, for a JSON file."""
        return [float(f"{value:.4g}") for value in (self.low, self.expected, self.high)]


def exactly(value: float) -> Range:
    """Return a range of one value."""
    return Range(value, value, value)
