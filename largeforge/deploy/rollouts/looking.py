"""What follows from one look at the gateways: counts since the last look, a decision for each group, what is new. Pure.

One model that is sent back takes the others of the same deployment back with it: what was tested together is one
version of the topology.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from largeforge.rollout import Decision, Observation, command, decide, start
from largeforge.rollout.observations import period
from largeforge.rollout.state import State
from largeforge.rollout.view import view

if TYPE_CHECKING:
    from largeforge.deploy.rollouts.document import Document, Group

BASELINE_S = 60.0
"""How long it is seen at most what stable does before a model that gets all of the traffic at once begins."""


@dataclass(frozen=True)
class Look:
    """What the gateways say."""

    arms: Mapping[str, Mapping[str, Any]]
    """By process of a gateway and expert, what it has counted of both sides since it started."""
    commands: tuple[str, ...] = ()
    """What people want, in their order."""
    guarded: Mapping[str, str] = field(default_factory=dict)
    """Experts whose canary a gateway has taken out by itself, and why."""


@dataclass(frozen=True)
class Told:
    """A decision that people are to hear of."""

    server: str
    decision: Decision


def advance(document: Document, look: Look, now: float, *, began: float) -> tuple[Document, list[Told]]:
    """Return the rollout after a look, and what was decided; `began` is when whoever conducts began to."""
    groups: list[Group] = []
    told: list[Told] = []
    for group in document.groups:
        after, decisions = _group(group, look, now, began, is_settled=bool(document.verdict))
        groups.append(after)
        told += [Told(group.server, decision) for decision in decisions]
    bad = next((group for group in groups if group.phase == "rolled_back"), None)
    if bad:
        for index, group in enumerate(groups):
            if group.state and group.phase != "rolled_back":
                groups[index], decision = _back(group, f"{bad.server} is sent back, and this came with it", now)
                told.append(Told(group.server, decision))
    return document.next(now, groups), told


def aborted(document: Document, now: float) -> Document:
    """Return a rollout that somebody ends, wherever it is."""
    begun = (
        group if group.state else replace(group, state=start(group.settings, now, before=group.before)[0])
        for group in document.groups
    )  # fmt: skip
    return document.next(now, [_back(group, "by command", now)[0] for group in begun])


def observed(group: Group, arms: Mapping[str, Mapping[str, Any]]) -> tuple[Observation, dict[str, Any]]:
    """Return what was counted of a group since its last look, and the readings to count from at the next."""
    now = {
        process: {name: experts[name] for name in group.judged if name in experts} for process, experts in arms.items()
    }
    return period(_parsed(group.readings), _parsed(now)), {**group.readings, **now}


def _parsed(readings: Mapping[str, Mapping[str, Any]]) -> dict[Hashable, Observation]:
    """Return counts by process and expert."""
    return {
        (process, name): Observation.from_json(counts)
        for process, experts in readings.items()
        for name, counts in experts.items()
    }


def _group(
    group: Group, look: Look, now: float, began: float, *, is_settled: bool
) -> tuple[Group, list[Decision]]:  # fmt: skip
    """Return a group after a look; one that was promoted is looked at until that is settled for all of them."""
    observation, readings = observed(group, look.arms)
    group = replace(group, readings=readings)
    if group.state is None:
        return _observing(group, observation, look, now, began)
    if group.phase == "rolled_back":
        return group, []
    for name in group.experts:
        if reason := look.guarded.get(name):
            after, decision = _back(group, f"the gateway has taken it out by itself: {reason}", now)
            return after, [decision]
    if group.phase == "promoted":
        return (group, []) if is_settled else _still_good(group, observation, now)
    state, decision = decide(group.settings, group.state, observation, now)
    is_news = state.log != group.state.log
    return _commanded(replace(group, state=state), look.commands, now, [decision] if is_news else [])


def _still_good(group: Group, observation: Observation, now: float) -> tuple[Group, list[Decision]]:
    """Judge a model that was promoted, and has all of the traffic, while others are on their way."""
    assert group.state is not None
    state, decision = decide(group.settings, replace(group.state, phase="finished"), observation, now)
    if state.phase == "rolled_back":
        return replace(group, state=state), [decision]
    return replace(group, state=replace(state, phase="promoted")), []


def _commanded(
    group: Group, commands: Iterable[str], now: float, decisions: list[Decision]
) -> tuple[Group, list[Decision]]:
    """Do what people want, in their order."""
    for given in commands:
        assert group.state is not None
        state, answer = command(group.settings, group.state, given, now)
        group, decisions = replace(group, state=state), [*decisions, answer]
    return group, decisions


def _observing(
    group: Group, observation: Observation, look: Look, now: float, began: float
) -> tuple[Group, list[Decision]]:
    """See what stable does until that is known well enough; only who gets all of the traffic at once needs it."""
    before = group.before + observation.stable
    is_known = before.requests >= group.settings.min_requests or now - began >= BASELINE_S
    if not look.commands and group.settings.shares[0] >= 1 and not is_known:
        return replace(group, before=before), []
    state, decision = start(group.settings, now, before=before)
    return _commanded(replace(group, state=state), look.commands, now, [decision])


def _back(group: Group, reason: str, now: float) -> tuple[Group, Decision]:
    """Send a group back for a reason that lies elsewhere."""
    assert group.state is not None
    decision = Decision("roll_back", 0.0, (reason,))
    state = replace(group.state, phase="rolled_back", share=0.0, shadow=0.0, changed=now, hold_since=None)
    return replace(group, state=state.logged(decision, now)), decision


def patch(document: Document, *, is_over: bool = False) -> dict[str, Any]:
    """Return what the gateways' state must have for a rollout; once it is over, its canaries have nothing any more."""
    groups = [(group, name) for group in document.groups for name in group.experts]
    found: dict[str, Any] = {
        "canaries": {name: None if is_over else group.share for group, name in groups},
        "shadows": {name: None if is_over else group.shadow or None for group, name in groups},
        "rollouts": {
            name: None if document.ended == "not_begun" else _shown(document, group, name) for group, name in groups
        },
    }
    if is_over or all(group.state is None for group in document.groups):
        found["guarded"] = {name: None for _, name in groups}
    return found


def _shown(document: Document, group: Group, expert: str) -> dict[str, Any]:
    """Return what a gateway shows of the rollout of an expert."""
    state, change, member = group.state, group.changes[expert], group.members[0]
    reasons = state.log[-1].reasons if state else ("seeing what stable does",)
    if state is None:
        state = State(group.settings.strategy, "running", 0, 0.0, 0.0, document.seen, document.seen, document.seen)
    decision = Decision("wait", state.share, reasons)
    return view(
        group.settings, state, decision, document.seen, release=(member.old, member.new), model=(change.old, change.new)
    )
