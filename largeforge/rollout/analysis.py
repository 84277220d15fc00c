"""Whether a canary is worse than stable, by all that was observed until now. Pure.

Each test has an e-value (`sequential.py`). Their mean, weighted, is one as well, so that the canary is worse, for all
metrics, looks and steps together at the level alpha, once it exceeds 1 / alpha. That is never later than dividing
alpha among the tests (Bonferroni), since one e-value alone can carry the mean (Vovk and Wang, E-values,
arXiv:1912.06116).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from largeforge.rollout import metrics
from largeforge.rollout.metrics import LIMITS, TIMES, Sample, Test
from largeforge.rollout.observations import SIGNALS, Arm, Observation
from largeforge.rollout.sequential import ODDS, Counts, Evidence, most_apart

if TYPE_CHECKING:
    from largeforge.recipe.sections.rollouts import Analysis

Outcome = Literal["worse", "fine", "not_enough"]
BLOCK = 5
"""Requests of either side in a block at least; what comes in smaller pieces waits until there are as many."""


@dataclass(frozen=True)
class Track:
    """What one test has found, and what waits for more."""

    evidence: Evidence = field(default_factory=Evidence)
    canary: Counts = field(default_factory=Counts)
    stable: Counts = field(default_factory=Counts)
    edge_s: float = 0.0
    """Edge of a histogram that waiting requests were counted by."""


@dataclass(frozen=True)
class Watch:
    """All that was observed in a rollout."""

    tracks: Mapping[str, Track] = field(default_factory=dict)
    before: Arm = field(default_factory=Arm)
    """Stable before the rollout."""
    whole: Observation = field(default_factory=Observation)
    step: Observation = field(default_factory=Observation)
    """Of the present step alone, whose shares of traffic are the same all the time."""


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


def look(settings: Analysis, watch: Watch, period: Observation, *, alone: bool = False) -> Watch:
    """Return what is known after one more period; `alone` says that the canary had all of the traffic in it."""
    before = watch.before + watch.whole.stable
    tracks = dict(watch.tracks)
    for test in metrics.tests(settings):
        track = tracks.get(test.name) or _begun(test, before)
        waits = track.edge_s if track.canary.total or track.stable.total else 0.0
        found = metrics.sample(settings, test, period, before, alone=alone, edge_s=waits)
        if found is not None:
            if found.edge_s != waits:
                track = Track(track.evidence)  # nothing waits, or by an edge that is gone
            tracks[test.name] = _tracked(track, found, settings.clustering)
    return Watch(tracks, watch.before, watch.whole + period, watch.step + period)


def next_step(watch: Watch) -> Watch:
    """Return what is known when shares of traffic change: requests that wait for more of their like do so no longer."""
    tracks = {name: Track(track.evidence) for name, track in watch.tracks.items()}
    return replace(watch, tracks=tracks, step=Observation())


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
        if self.test.metric == "agreement" and compared.floor:
            return f"{1 - compared.floor:.0%}"
        times = f"{compared.ratio:g} times " if compared.ratio > 1 else ""
        return f"{times}stable's plus {compared.tolerance:.2%}"

    def _odds(self) -> str:
        return f"e-value {_exp(self.log_e):.3g}, 1 / alpha is {1 / self.settings.alpha:g}"


def _begun(test: Test, before: Arm) -> Track:
    """Return a track that guesses stable's share from what it did before."""
    return Track() if test.metric in TIMES else Track(Evidence(stable=metrics.count(before, test.metric)))


def _tracked(track: Track, found: Sample, clustering: float) -> Track:
    canary, stable = track.canary + found.canary, track.stable + found.stable
    lonely = not found.tolerated.ratio
    if canary.total < (1 if lonely else BLOCK) or (not lonely and stable.total < BLOCK):
        return Track(track.evidence, canary, stable, found.edge_s)
    evidence = track.evidence
    if found.stable_before is not None:
        evidence = replace(evidence, stable=found.stable_before)
    after = evidence.after(canary, stable, found.tolerated, clustering=clustering)
    return Track(after, edge_s=found.edge_s)


def _exp(log: float) -> float:
    return math.exp(min(log, 700.0))


def as_json(watch: Watch) -> dict[str, Any]:
    """Return it for JSON."""
    return {
        "tracks": {name: _track_json(track) for name, track in sorted(watch.tracks.items())},
        "before": watch.before.as_json(),
        "whole": watch.whole.as_json(),
        "step": watch.step.as_json(),
    }


def from_json(found: Mapping[str, Any]) -> Watch:
    """Return what `as_json` gave."""
    return Watch(
        {name: _track(track) for name, track in found["tracks"].items()},
        Arm.from_json(found["before"]),
        Observation.from_json(found["whole"]),
        Observation.from_json(found["step"]),
    )


def _track_json(track: Track) -> dict[str, Any]:
    evidence = track.evidence
    return {
        "logs": list(evidence.logs),
        "asleep": evidence.asleep,
        "canary_total": evidence.canary_total,
        "guessed_from": [evidence.stable.bad, evidence.stable.total],
        "canary": [track.canary.bad, track.canary.total],
        "stable": [track.stable.bad, track.stable.total],
        "edge_s": track.edge_s,
    }


def _track(found: Mapping[str, Any]) -> Track:
    if len(found["logs"]) != len(ODDS):
        raise ValueError(f"evidence of {len(found['logs'])} guesses; there are {len(ODDS)}")
    evidence = Evidence(
        tuple(found["logs"]), found["asleep"], found["canary_total"], Counts(*found["guessed_from"])
    )  # fmt: skip
    return Track(evidence, Counts(*found["canary"]), Counts(*found["stable"]), found["edge_s"])
