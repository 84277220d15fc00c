"""What has been decided about an expert's replicas, what windows need to know, and how it is kept as JSON. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from largeforge.autoscale.forecast import History
from largeforge.autoscale.pace import Pace
from largeforge.autoscale.reading import number, optional

VERSION = 1
"""Of the JSON; a file of another one is refused."""
LOGGED = 200
"""Newest entries of the log that are kept."""


@dataclass(frozen=True)
class Decision:
    """What is to be brought about now."""

    wanted: int
    """Replicas that are to run, those that start already included."""
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """One line of the log."""

    time: float
    before: int
    wanted: int
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class State:
    """Where an expert is."""

    wanted: int
    since: float
    """Since when it is looked at without a long pause; seconds since the epoch, as all times here."""
    looked: float
    """When it was looked at last."""
    needs: tuple[tuple[float, int], ...] = ()
    """Time and need of each look, as far back as windows reach."""
    pressed: int = 0
    """Looks in a row at which far too much was asked."""
    idle_since: float | None = None
    """Since when nobody asks."""
    history: History = field(default_factory=History)
    pace: Pace = field(default_factory=Pace)
    log: tuple[Entry, ...] = ()

    def decided(self, decision: Decision, now: float) -> State:
        """Return the state after a decision, with a line in its log where that changes something."""
        if decision.wanted == self.wanted:
            return self
        entry = Entry(now, self.wanted, decision.wanted, decision.reasons)
        return replace(self, wanted=decision.wanted, log=(*self.log, entry)[-LOGGED:])

    def as_json(self) -> dict[str, Any]:
        """Return it for JSON."""
        found = {name: getattr(self, name) for name in ("wanted", "since", "looked", "pressed", "idle_since")}
        log = [{**asdict(entry), "reasons": list(entry.reasons)} for entry in self.log]
        needs = [list(one) for one in self.needs]
        kept = {"history": self.history.as_json(), "pace": self.pace.as_json()}
        return {"version": VERSION, **found, "needs": needs, **kept, "log": log}

    @classmethod
    def from_json(cls, found: Any) -> State:
        """Return what `as_json` gave.

        Raises ValueError where it is anything else.
        """
        version = found.get("version") if isinstance(found, dict) else None
        if version != VERSION:
            raise ValueError(f"the state of autoscaling has version {version!r}; {VERSION} is understood")
        try:
            return cls(
                wanted=int(number(found["wanted"])), since=number(found["since"]), looked=number(found["looked"]),
                needs=tuple((number(time), int(number(need))) for time, need in found["needs"]),
                pressed=int(number(found["pressed"])), idle_since=optional(found["idle_since"]),
                history=History.from_json(found["history"]), pace=Pace.from_json(found["pace"]),
                log=tuple(_entry(**one) for one in found["log"]),
            )  # fmt: skip
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"the state of autoscaling is incomplete: {error!r}") from error


def _entry(time: Any, before: Any, wanted: Any, reasons: Any) -> Entry:
    return Entry(number(time), int(number(before)), int(number(wanted)), tuple(map(str, reasons)))
