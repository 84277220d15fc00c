"""All that was observed in a rollout, look by look, and what it says against the canary. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from largeforge.rollout import metrics
from largeforge.rollout.metrics import TIMES, Sample, Test
from largeforge.rollout.observations import Arm, Observation
from largeforge.rollout.sequential import ODDS, Counts, Evidence

if TYPE_CHECKING:
    from largeforge.recipe.sections.rollouts import Analysis

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
