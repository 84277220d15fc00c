"""Other tests of whether a canary fails more often than stable, beside which ours was chosen; errors alone.

Each takes the counts of a period and says whether it would send the canary back. All but the naive one are made for
repeated looks; none tolerates any difference here, as not all of them could.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

from largeforge.rollout.sequential import ODDS, Counts, Evidence, Tolerated, lower_bound, upper_bound

Decider = Callable[[Counts, Counts], bool]


def e_values(alpha: float) -> Decider:
    """Blocks of e-values (Turner, Ly and Grünwald): what the analysis uses, all of it staked from the first look on as
    the others do."""
    evidence = Evidence(tuple(-math.log(len(ODDS)) for _ in ODDS), -math.inf)

    def is_worse(canary: Counts, stable: Counts) -> bool:
        nonlocal evidence
        evidence = evidence.after(canary, stable, Tolerated())
        return evidence.log_e >= -math.log(alpha)

    return is_worse


def conditional(alpha: float) -> Decider:
    """The likelihood ratio of how errors fall on both sides, given how many there are (Fisher's noncentral
    hypergeometric distribution), mixed over the same guesses of the odds ratio; needs no guess of stable's share."""
    logs = [-math.log(len(ODDS))] * len(ODDS)

    def is_worse(canary: Counts, stable: Counts) -> bool:
        errors = int(canary.bad + stable.bad)
        if errors:
            least, most = max(0, errors - int(stable.total)), min(errors, int(canary.total))
            ways = [_choose(canary.total, bad) + _choose(stable.total, errors - bad) for bad in range(least, most + 1)]
            for index, odds in enumerate(ODDS):
                tilted = [way + bad * math.log(odds) for way, bad in zip(ways, range(least, most + 1), strict=True)]
                logs[index] += canary.bad * math.log(odds) - _log_sum(tilted) + _log_sum(ways)
        return _log_sum(logs) >= -math.log(alpha)

    return is_worse


def msprt(alpha: float, tau: float = 0.02) -> Decider:
    """The mixture sequential probability ratio test with a normal approximation (Johari, Pekelis and Walsh,
    arXiv:1512.04922), a mixture of scale tau over the difference, on the side of a worse canary."""
    seen = [Counts(), Counts()]

    def is_worse(canary: Counts, stable: Counts) -> bool:
        seen[0], seen[1] = seen[0] + canary, seen[1] + stable
        both = seen[0] + seen[1]
        variance = both.share * (1 - both.share) * (1 / max(seen[0].total, 1) + 1 / max(seen[1].total, 1))
        apart = seen[0].share - seen[1].share
        if not variance or apart <= 0:
            return False
        log = 0.5 * math.log(variance / (variance + tau**2)) + tau**2 * apart**2 / (2 * variance * (variance + tau**2))
        return log >= -math.log(alpha)

    return is_worse


def sequences(alpha: float) -> Decider:
    """Confidence sequences of both sides (Howard and others, arXiv:1810.08240) that do not touch; every fourth look."""
    seen = [Counts(), Counts()]
    looks = 0

    def is_worse(canary: Counts, stable: Counts) -> bool:
        nonlocal looks
        looks += 1
        seen[0], seen[1] = seen[0] + canary, seen[1] + stable
        if looks % 4 or seen[0].share <= seen[1].share:
            return False
        return lower_bound(seen[0], alpha / 2) > upper_bound(seen[1], alpha / 2)

    return is_worse


def z_test(alpha: float) -> Decider:
    """The one-sided z-test of all counts until now, at each look anew: what one should not do."""
    seen = [Counts(), Counts()]
    limit = NormalDist().inv_cdf(1 - alpha)

    def is_worse(canary: Counts, stable: Counts) -> bool:
        seen[0], seen[1] = seen[0] + canary, seen[1] + stable
        return z_score(*seen) > limit

    return is_worse


def z_score(canary: Counts, stable: Counts) -> float:
    """Return by how many standard errors the canary's share exceeds stable's."""
    both = canary + stable
    if not canary.total or not stable.total or both.share in (0, 1):
        return 0.0
    error = math.sqrt(both.share * (1 - both.share) * (1 / canary.total + 1 / stable.total))
    return (canary.share - stable.share) / error


TESTS: dict[str, Callable[[float], Decider]] = {
    "e-values of blocks": e_values,
    "conditional": conditional,
    "mSPRT": msprt,
    "confidence sequences": sequences,
    "repeated z-test": z_test,
}


def _choose(total: float, bad: int) -> float:
    return math.lgamma(total + 1) - math.lgamma(bad + 1) - math.lgamma(total - bad + 1)


def _log_sum(logs: list[float]) -> float:
    most = max(logs)
    return most + math.log(sum(math.exp(log - most) for log in logs))
