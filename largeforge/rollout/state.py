"""What a rollout has come to, its log, and how both are kept as JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from largeforge.rollout import watch
from largeforge.rollout.watch import Watch

if TYPE_CHECKING:
    from largeforge.rollout.analysis import Assessment

VERSION = 1
"""Of the JSON; a file of another one is refused."""
LOGGED = 200
"""Newest entries of the log that are kept."""

Phase = Literal["running", "paused", "finished", "promoted", "rolled_back"]
"""`finished` is an A/B test whose time is over: its shares stay. The last two are the end."""
Action = Literal["wait", "hold", "step", "promote", "roll_back", "finish", "pause", "resume", "refuse"]
ENDED = ("promoted", "rolled_back")


@dataclass(frozen=True)
class Decision:
    """What is to be done now."""

    action: Action
    share: float
    """Share of the traffic that the new model has from now on."""
    reasons: tuple[str, ...] = ()
    shadow: float = 0.0
    """Share of the requests that it is given copies of."""
    assessment: Assessment | None = None


@dataclass(frozen=True)
class Entry:
    """One line of the log."""

    time: float
    step: int
    action: Action
    share: float
    reasons: tuple[str, ...]
    verdicts: Mapping[str, str]
    """By metric."""


@dataclass(frozen=True)
class State:
    """Where a rollout is."""

    strategy: str
    phase: Phase
    step: int
    """Index of the step, from 0."""
    share: float
    shadow: float
    started: float
    """Seconds since the epoch, as all times here."""
    step_since: float
    """Moved on by pauses, so that they do not count as baked."""
    changed: float
    """When the phase was entered."""
    hold_since: float | None = None
    """Since when a step that has baked waits."""
    watch: Watch = field(default_factory=Watch)
    log: tuple[Entry, ...] = ()

    def logged(self, decision: Decision, now: float) -> State:
        """Return the state with a line more in its log; waiting on is none."""
        verdicts = (
            {verdict.metric: verdict.outcome for verdict in decision.assessment.verdicts} if decision.assessment else {}
        )
        entry = Entry(now, self.step, decision.action, decision.share, decision.reasons, verdicts)
        return replace(self, log=(*self.log, entry)[-LOGGED:])

    def as_json(self) -> dict[str, Any]:
        """Return it for JSON."""
        found = {name: getattr(self, name) for name in _PLAIN}
        log = [{**asdict(entry), "reasons": list(entry.reasons)} for entry in self.log]
        return {"version": VERSION, **found, "watch": watch.as_json(self.watch), "log": log}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> State:
        """Return what `as_json` gave.

        Raises ValueError where it is of another version or misses something.
        """
        if found.get("version") != VERSION:
            raise ValueError(f"the state of a rollout has version {found.get('version')!r}; {VERSION} is understood")
        try:
            log = tuple(Entry(**{**entry, "reasons": tuple(entry["reasons"])}) for entry in found["log"])
            return cls(**{name: found[name] for name in _PLAIN}, watch=watch.from_json(found["watch"]), log=log)
        except (LookupError, TypeError) as error:
            raise ValueError(f"the state of a rollout is incomplete: {error!r}") from error


_PLAIN = ("strategy", "phase", "step", "share", "shadow", "started", "step_since", "changed", "hold_since")
