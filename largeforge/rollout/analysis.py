"""Whether a canary is worse than stable, by all that was observed until now. Pure.

Each test has an e-value (`sequential.py`). Their mean, weighted, is one as well, so that the canary is worse, for all
metrics, looks and steps together at the level alpha, once it exceeds 1 / alpha. That is never later than dividing
alpha among the tests (Bonferroni), since one e-value alone can carry the mean (Vovk and Wang, E-values,
arXiv:1912.06116).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from largeforge.rollout import metrics
from largeforge.rollout.metrics import LIMITS, TIMES, Test
from largeforge.rollout.observations import SIGNALS, Observation
from largeforge.rollout.sequential import Counts, most_apart
from largeforge.rollout.watch import Track, Watch

if TYPE_CHECKING:
    from largeforge.recipe.sections.rollouts import Analysis

Outcome = Literal["worse", "fine", "not_enough"]


@dataclass(frozen=True)
class Verdict:
    """What is known of one metric."""

    metric: str
    outcome: Outcome
    reason: str
    """For people."""
    e_value: float
    """How many times likelier the counts are if the canary is worse; part of the mean that decides."""
    canary: Counts
    stable: Counts


@dataclass(frozen=True)
class Assessment:
    """What is known of a canary."""

    outcome: Outcome
    verdicts: tuple[Verdict, ...]
    e_value: float
    """Above 1 / alpha the canary is worse."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the outcome is what it is."""
        return tuple(verdict.reason for verdict in self.verdicts if verdict.outcome == self.outcome)


def assess(
    settings: Analysis,
    watch: Watch,
    *,
    min_requests: int,
    required: Collection[str] = (),
    alone: bool = False,
    passing: bool = True,
) -> Assessment:
    """Return what is known of a canary: `fine` is that nothing is worse and that there was enough to find out.

    What `rule_out` asks for is only looked at where a step could be passed.
    """
    tests = metrics.tests(settings)
    logs = {test.name: watch.tracks.get(test.name, Track()).evidence.log_e for test in tests}
    parts = {test.name: math.log(test.weight) + logs[test.name] for test in tests}
    limit = -math.log(settings.alpha)
    edges = {name: track.edge_s for name, track in watch.tracks.items()}
    most = max(parts.values())
    total = most + math.log(sum(math.exp(part - most) for part in parts.values()))
    blamed = {name for name, part in parts.items() if part >= limit}
    if total >= limit and not blamed:
        blamed = {max(parts, key=lambda name: parts[name])}
    judges = [
        _Judge(
            settings, watch, test, logs[test.name], min_requests, test.metric in required, alone, passing,
            edges.get(test.name, 0.0),
        )
        for test in tests
    ]  # fmt: skip
    found = (judge.verdict(judge.test.name in blamed) for judge in judges)
    shown = tuple(verdict for verdict in found if verdict is not None)
    outcomes = {verdict.outcome for verdict in shown}
    worst: Outcome = "worse" if blamed else "not_enough" if "not_enough" in outcomes else "fine"
    return Assessment(worst, shown, _exp(total))


@dataclass(frozen=True)
class _Judge:
    """Says of one test what is known."""

    settings: Analysis
    watch: Watch
    test: Test
    log_e: float
    min_requests: int
    required: bool
    alone: bool
    passing: bool
    edge_s: float

    def verdict(self, worse: bool) -> Verdict | None:
        """Return what is known; None where nothing is observed and nobody waits for it."""
        step = self._counts(self.watch.step)
        ours, theirs = step if step[0].total >= 50 or not worse else self._counts(self.watch.whole)
        found = Verdict(self.test.name, "worse", "", _exp(self.log_e), ours, theirs)
        if worse:
            return replace(
                found, reason=f"{self._shown(ours, theirs)}: worse than {self._tolerated()} ({self._odds()})"
            )
        missing = self._missing(*step)
        if missing:
            return replace(found, outcome="not_enough", reason=missing)
        if not ours.total:
            return None
        return replace(found, outcome="fine", reason=f"{self._shown(ours, theirs)}: not worse")

    def _counts(self, seen: Observation) -> tuple[Counts, Counts]:
        metric = self.test.metric
        return metrics.count(seen.canary, metric, self.edge_s), metrics.count(seen.stable, metric, self.edge_s)

    def _missing(self, ours: Counts, theirs: Counts) -> str:
        """Return what there is not enough of, in words; empty where there is."""
        compared = self.settings.compared(self.test.metric)
        is_errors = self.test.metric == "errors"
        wanted = max(compared.min_samples, self.min_requests if is_errors else 0)
        waited_for = compared.required or self.required or ours.total + theirs.total > 0
        if ours.total < wanted and waited_for:
            return f"{self.test.name}: {ours.total:g} of the {wanted} requests of the canary that are needed"
        if (
            not self.passing
            or not compared.rule_out
            or self.alone
            or self.test.name in LIMITS
            or not ours.total
            or not theirs.total
        ):
            return ""
        apart = most_apart(ours, theirs, 1 - self.settings.confidence)
        if apart <= compared.rule_out:
            return ""
        return (
            f"{self._shown(ours, theirs)}: may be {apart:.1%} above stable's; a step is passed when that is at most "
            f"{compared.rule_out:.1%}"
        )

    def _shown(self, ours: Counts, theirs: Counts) -> str:
        what = self.test.name
        if self.test.metric in TIMES:
            what += f" (slower than {self.edge_s:g} s)"
        elif self.test.metric in SIGNALS:
            what += " (bad ones)"
        beside = f", {theirs.bad:g} of {theirs.total:g} of stable's ({theirs.share:.2%})" if theirs.total else ""
        return f"{what}: {ours.bad:g} of {ours.total:g} requests of the canary ({ours.share:.2%}){beside}"

    def _tolerated(self) -> str:
        compared = self.settings.compared(self.test.metric)
        if self.alone:
            return "its limit and than stable was before"
        if self.test.name == "error_share":
            return f"{self.settings.triggers.error_share:.2%} and than stable"
        share = metrics.slow_share(self.settings, self.test)
        limit = f"{share:.4g} of all and than " if share else ""
        if self.test.metric == "agreement" and compared.floor:
            return f"{1 - compared.floor:.0%}"
        times = f"{compared.ratio:g} times " if compared.ratio > 1 else ""
        return f"{limit}{times}stable's plus {compared.tolerance:.2%}"

    def _odds(self) -> str:
        return f"e-value {_exp(self.log_e):.3g}, 1 / alpha is {1 / self.settings.alpha:g}"


def _exp(log: float) -> float:
    return math.exp(min(log, 700.0))
