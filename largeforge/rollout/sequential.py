"""Whether one share is larger than another, decided at any number of looks without more false alarms. Pure.

A share is that of bad requests: failed, slower than a limit, judged wrong. At each look the canary's counts and
stable's over the same time make one block, and the block one e-value: a number whose mean is at most 1 whatever the
shares are, as long as the canary's is tolerated. A product of e-values of blocks exceeds 1/alpha at *any* look with a
probability of at most alpha (Ville's inequality), so one may look as often as one likes and stop when one likes.

The e-value of a block is that of Turner, Ly and Grünwald, Generic E-Variables for Exact Sequential k-Sample Tests that
allow for Optional Stopping (arXiv:2106.02693), and Turner and Grünwald, Exact Anytime-valid Confidence Intervals for
Contingency Tables and Beyond (arXiv:2203.09785), for other nulls than equality:

    S = P(canary; c*) P(stable; s*) / (P(canary; c0) P(stable; s0))

c* and s* are guesses made before the block; (c0, s0) are the tolerated shares nearest to them, by the Kullback-Leibler
divergence weighted with the sizes of the block. As tolerated shares are a convex set, the mean of S is at most

    exp(n_c (c - c0) (c* - c0) / (c0 (1 - c0)) + n_s (s - s0) (s* - s0) / (s0 (1 - s0))) <= 1   for tolerated (c, s),

the exponent being how the divergence falls from (c0, s0) towards (c, s), which at its minimum is nowhere. Nothing asks
that shares stay what they are from block to block: a night, or an outage that hits both, is no evidence against the
canary. Requests of one block are taken as independent; `clustering` is for those that are not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

ODDS = (1.3, 2.0, 4.0, 10.0, 25.0)
"""How many times the odds of what is tolerated the canary's are guessed to be; evidence is the mean over these
guesses."""
ASLEEP = 0.3
"""Share of the evidence that is not staked at first, but later: what goes wrong after hours is found, too."""
HALF_AWAKE = 2000
"""Canary requests after which half of that is staked; what is left then falls as 1 / requests, so never all of it
is."""
_PRIOR_BAD, _PRIOR_TOTAL = 0.5, 50.0
_REMEMBERED = 20_000.0
"""Requests of stable from which its share is guessed; older ones fade."""
_TINY = 1e-9


@dataclass(frozen=True)
class Counts:
    """How many of so many requests were bad."""

    bad: float = 0
    total: float = 0

    def __post_init__(self) -> None:
        if not 0 <= self.bad <= self.total:
            raise ValueError(f"{self.bad} bad requests of {self.total}: must be between none and all")

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.bad + other.bad, self.total + other.total)

    @property
    def share(self) -> float:
        """The share of bad ones; 0 of none."""
        return self.bad / self.total if self.total else 0.0


@dataclass(frozen=True)
class Tolerated:
    """The largest share of the canary that is no reason to blame it: max(limit, ratio * stable's + margin)."""

    ratio: float = 1.0
    margin: float = 0.0
    limit: float = 0.0

    def boundary(self, stable: float) -> float:
        """Return that share for a share of stable's."""
        return _within(max(self.limit, self.ratio * stable + self.margin))


@dataclass(frozen=True)
class Evidence:
    """What all blocks until now say against the canary."""

    logs: tuple[float, ...] = tuple(math.log((1 - ASLEEP) / len(ODDS)) for _ in ODDS)
    """Natural logarithm of what is staked on each guess of `ODDS`."""
    asleep: float = math.log(ASLEEP)
    """That of what is not staked yet."""
    canary_total: float = 0.0
    stable: Counts = Counts()
    """What stable's share is guessed from."""

    @property
    def log_e(self) -> float:
        """The logarithm of the e-value: above log(1 / alpha) the canary is worse, at the level alpha."""
        return _log_sum([*self.logs, self.asleep])

    def after(
        self, canary: Counts, stable: Counts, tolerated: Tolerated, *, clustering: float = 1.0
    ) -> Evidence:  # fmt: skip
        """Return the evidence with one more block, which must be of requests that no block before had.

        `clustering` is by how much requests that come in clusters vary more than independent ones (the design effect):
        S ** (1 / clustering) is an e-value as well (Jensen), and the more cautious one.
        """
        learnt = _faded(self.stable) + stable
        if not canary.total:
            return Evidence(self.logs, self.asleep, self.canary_total, learnt)
        guess = _within((self.stable.bad + _PRIOR_BAD) / (self.stable.total + _PRIOR_TOTAL))
        odds = _odds(tolerated.boundary(guess))
        gains = [
            log_e_value(canary, stable, odds * times / (1 + odds * times), guess, tolerated) / clustering
            for times in ODDS
        ]
        seen = self.canary_total + canary.total
        woken = canary.total / (seen + HALF_AWAKE)
        share = self.asleep + math.log(woken / len(ODDS))
        logs = tuple(_log_sum([log, share]) + gain for log, gain in zip(self.logs, gains, strict=True))
        return Evidence(logs, self.asleep + math.log1p(-woken), seen, learnt)


def log_e_value(canary: Counts, stable: Counts, guess: float, stable_guess: float, tolerated: Tolerated) -> float:
    """Return the logarithm of the e-value of one block, by guesses that were made before it.

    With a limit, what is tolerated is the union of two convex sets; the smaller of both e-values holds for either.
    """
    nearest = nearest_tolerated(guess, stable_guess, canary.total, stable.total, tolerated.ratio, tolerated.margin)
    log = _log_ratio(canary, guess, nearest[0]) + _log_ratio(stable, stable_guess, nearest[1])
    if tolerated.limit:
        log = min(log, _log_ratio(canary, guess, min(guess, _within(tolerated.limit))))
    return log


def nearest_tolerated(
    canary: float, stable: float, canary_total: float, stable_total: float, ratio: float, margin: float
) -> tuple[float, float]:
    """Return the shares (c0, s0) with c0 <= ratio * s0 + margin that are nearest to the given ones.

    They minimise canary_total KL(canary, c0) + stable_total KL(stable, s0), which is convex. Its derivative on the
    line, times what makes it a polynomial, has one root between stable's share and where the canary's would be
    tolerated: found by Newton's method, with bisection where that would leave the bracket.
    """
    if canary <= ratio * stable + margin or not canary_total:
        return canary, stable
    if not ratio:
        return _within(margin), stable
    low, high = stable, min(1 - _TINY, (canary - margin) / ratio)
    if not stable_total:
        return _within(ratio * high + margin), high
    point = min(high, (canary_total * high + stable_total * stable) / (canary_total + stable_total))
    for _ in range(60):
        own = min(1 - _TINY, ratio * point + margin)
        scale, own_scale = point * (1 - point), own * (1 - own)
        slope = canary_total * ratio * (canary - own) * scale + stable_total * (stable - point) * own_scale
        if slope > 0:
            low = point
        else:
            high = point
        steep = canary_total * ratio * ((canary - own) * (1 - 2 * point) - ratio * scale) + stable_total * (
            (stable - point) * ratio * (1 - 2 * own) - own_scale
        )
        step = point - slope / steep if steep < 0 else low
        if abs(step - point) <= 1e-11 * point:
            break
        point = step if low < step < high else (low + high) / 2
    return _within(ratio * point + margin), point


LAMBDAS = tuple(0.01 * 1.6**power for power in range(14))
"""Of the confidence sequence: from a hundredth, for millions of requests, to 4.5, for a few."""


def bounds(counts: Counts, alpha: float) -> tuple[float, float]:
    """Return what the mean share is between, at all looks at once with a probability of 1 - alpha."""
    return lower_bound(counts, alpha / 2), upper_bound(counts, alpha / 2)


@lru_cache(maxsize=256)
def upper_bound(counts: Counts, alpha: float) -> float:
    """Return what the mean share is not above, at all looks at once with a probability of 1 - alpha.

    A confidence sequence by the method of mixtures (Howard, Ramdas, McAuliffe, Sekhon, Time-uniform, nonparametric,
    nonasymptotic confidence sequences, arXiv:1810.08240) over `LAMBDAS`: for fixed l, and shares p_i that may change,

        exp(-l S - n log(1 + p (e^-l - 1))) <= exp(-l S - sum_i log(1 + p_i (e^-l - 1))),    p the mean of the p_i,

    since the logarithm is concave; the right side is a martingale. So is its mean over several l, and the mean share p
    is not where the left side's exceeds 1 / alpha.
    """
    if not counts.total:
        return 1.0
    limit = math.log(len(LAMBDAS) / alpha)
    low, high = counts.share, 1.0
    for _ in range(25):
        middle = (low + high) / 2
        log = _log_sum([-x * counts.bad - counts.total * math.log1p(middle * math.expm1(-x)) for x in LAMBDAS])
        if log < limit:
            low = middle
        else:
            high = middle
    return high


def lower_bound(counts: Counts, alpha: float) -> float:
    """Return what the mean share is not below, likewise."""
    return 1 - upper_bound(Counts(counts.total - counts.bad, counts.total), alpha)


def most_apart(canary: Counts, stable: Counts, alpha: float) -> float:
    """Return what the canary's mean share is not above stable's by, at all looks at once with 1 - alpha."""
    return upper_bound(canary, alpha / 2) - lower_bound(stable, alpha / 2)


def _log_ratio(counts: Counts, of: float, to: float) -> float:
    """Return the logarithm of how much likelier counts are by one share than by another."""
    good = counts.total - counts.bad
    return (counts.bad * math.log(of / to) if counts.bad else 0.0) + good * (math.log1p(-of) - math.log1p(-to))


def _faded(counts: Counts) -> Counts:
    if counts.total <= _REMEMBERED:
        return counts
    return Counts(counts.bad * _REMEMBERED / counts.total, _REMEMBERED)


def _log_sum(logs: Sequence[float]) -> float:
    most = max(logs)
    return most + math.log(sum(math.exp(log - most) for log in logs))


def _odds(share: float) -> float:
    return share / (1 - share)


def _within(share: float) -> float:
    return min(1 - _TINY, max(_TINY, share))
