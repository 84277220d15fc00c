"""What a controller tells of a rollout: where it is, why, and that somebody still looks after it.

The gateway shows it, counts it and keeps it; it decides nothing by it but whether a canary is watched (`guard.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from largeforge.recipe.base import Strict
from largeforge.recipe.sections.rollouts import Analysis
from largeforge.rollout.analysis import Outcome
from largeforge.rollout.state import Action, Phase

if TYPE_CHECKING:
    from largeforge.gateway.admin.state import State

Strategy = Literal["canary", "blue_green", "shadow", "ab", "immediate"]
Share = Annotated[float, Field(ge=0, le=1)]
Moment = Annotated[float, Field(ge=0, le=1e11)]
"""Seconds since the epoch."""
Step = Annotated[int, Field(ge=0, le=1000)]
Line = Annotated[str, Field(max_length=500)]
Word = Annotated[str, Field(min_length=1, max_length=64)]
MOST_REASONS, MOST_LOGGED, MOST_STEPS = 20, 20, 51
MOST_BYTES = 65_536
"""Largest view of one rollout, as JSON."""
ENDED: tuple[Phase, ...] = ("finished", "promoted", "rolled_back")
STALE_S = 60.0
"""A running rollout that no controller has looked at for longer has none."""


class Versions(Strict):
    """What is replaced, and by what."""

    old: Line = ""
    new: Line = ""


class Logged(Strict):
    """One line of a rollout's log."""

    time: Moment
    step: Step = 0
    action: Action
    share: Share
    reasons: list[Line] = Field(default=[], max_length=MOST_REASONS)
    verdicts: dict[Word, Outcome] = Field(default={}, max_length=MOST_REASONS)
    """By metric."""


class RolloutView(Strict):
    """A rollout, as its controller tells of it."""

    strategy: Strategy
    phase: Phase
    step: Step = 0
    """Index of the step, from 0."""
    steps: list[Share] = Field(default=[], max_length=MOST_STEPS)
    """Shares, one after the other."""
    share: Share
    """Share of the traffic that the new model is to have."""
    shadow: Share = 0.0
    """Share of the requests that it is to get copies of."""
    started: Moment
    changed: Moment
    """When the phase or the step was entered."""
    seen: Moment
    """When the controller looked last; never later than the gateway heard of it."""
    release: Versions = Versions()
    model: Versions = Versions()
    reasons: list[Line] = Field(default=[], max_length=MOST_REASONS)
    """Why it is where it is."""
    log: list[Logged] = Field(default=[], max_length=MOST_LOGGED)
    """The newest entries, the last one last."""
    analysis: Analysis | None = None
    """What the canary is compared by, for the gateway's own guard; defaults without it."""

    @model_validator(mode="after")
    def _is_small(self) -> Self:
        size = len(self.model_dump_json(exclude_defaults=True))
        if size > MOST_BYTES:
            raise ValueError(f"a rollout has at most {MOST_BYTES} bytes, not {size}")
        return self

    def has_controller(self, now: float, within_s: float = STALE_S) -> bool:
        """Whether a controller looked at it lately."""
        return now - self.seen <= within_s


def heard(rollouts: Mapping[str, RolloutView], now: float) -> dict[str, RolloutView]:
    """Return rollouts whose controllers have not looked later than now: a clock that is ahead must not keep one alive
    that is gone."""
    return {
        expert: view.model_copy(update={"seen": now}) if view.seen > now else view for expert, view in rollouts.items()
    }


def seen(rollouts: Mapping[str, RolloutView]) -> dict[str, float]:
    """Return when each controller looked last."""
    return {expert: view.seen for expert, view in rollouts.items()}


def with_seen(rollouts: Mapping[str, RolloutView], times: Mapping[str, float]) -> dict[str, RolloutView]:
    """Return rollouts with the times that controllers looked last."""
    return {
        expert: view.model_copy(update={"seen": times[expert]}) if times.get(expert, view.seen) != view.seen else view
        for expert, view in rollouts.items()
    }


def share_in_force(state: State, expert: str) -> float:
    """Return the share that the new model of an expert has: what is set, or what it ended with."""
    view = state.rollouts.get(expert)
    if expert in state.canaries or view is None or view.phase not in ENDED:
        return state.canaries.get(expert, 0.0)
    return view.share
