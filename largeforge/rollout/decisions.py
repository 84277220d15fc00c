"""What a rollout does next: (settings, state, observation, now) -> (state, decision). Pure, and total.

    state, decision = start(settings, now, before=stable_until_now)
    state, decision = decide(settings, state, observation, now)       at every look, with what was new since the last
    state, decision = command(settings, state, "pause", now)          by people; one that makes no sense is refused

Whoever calls this keeps `state.as_json()` before acting on a decision, so that after a crash the same state gives the
same share again. `decision.share` and `decision.shadow` are always what should be in force. An observation is of one
share: counters are read when it changes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

from largeforge.rollout.analysis import Assessment, assess
from largeforge.rollout.observations import Arm, Observation
from largeforge.rollout.state import ENDED, Action, Decision, Phase, State
from largeforge.rollout.watch import Watch, look, next_step

if TYPE_CHECKING:
    from largeforge.recipe.sections.rollouts import Rollout

Command = Literal["pause", "resume", "promote", "abort"]
COMMANDS: tuple[Command, ...] = get_args(Command)

Next = tuple[State, Decision]


def start(settings: Rollout, now: float, *, before: Arm | None = None) -> Next:
    """Begin a rollout; `before` is what stable has done until now, as far as it is known."""
    shadow = settings.shadow_share if settings.strategy == "shadow" else 0.0
    state = State(
        settings.strategy, "running", 0, settings.shares[0], shadow, now, now, now, watch=Watch(before=before or Arm())
    )
    if settings.strategy == "immediate":
        return _ended(state, "promote", now, ("immediate: all of the traffic at once",))
    wanted = "copies" if shadow else "the traffic"
    reason = f"{settings.strategy}: {(shadow or state.share):.4g} of {wanted}"
    return _decided(state, Decision("step", state.share, (reason,), shadow), now)


def decide(settings: Rollout, state: State, observation: Observation, now: float) -> Next:
    """Return what follows from what was observed since the last look."""
    if state.phase in ENDED:
        return state, Decision("wait", state.share, (f"{state.phase} already",))
    alone = state.share >= 1
    seen = replace(state, watch=look(settings.analysis, state.watch, observation, alone=alone))
    baked = state.phase == "running" and now - state.step_since >= _bake_s(settings, state)
    found = assess(
        settings.analysis,
        seen.watch,
        min_requests=settings.min_requests,
        required=("agreement",) if state.strategy == "shadow" else (),
        alone=alone,
        passing=baked,
    )
    if found.outcome == "worse":
        return _ended(seen, "roll_back", now, found.reasons, found)
    if state.phase != "running":
        return seen, _same(seen, "wait", (f"{state.phase} since {now - state.changed:.0f} s",), found)
    if not baked:
        left = _bake_s(settings, state) - (now - state.step_since)
        return seen, _same(seen, "wait", (f"{_place(settings, state)} for {left:.0f} s more",), found)
    if found.outcome == "not_enough":
        return _held(settings, seen, now, found)
    return _passed(settings, seen, now, found)


def command(settings: Rollout, state: State, given: str, now: float) -> Next:
    """Return what follows from a command of a person; what does not fit the state is refused with the reason."""
    if given not in COMMANDS:
        return state, _same(state, "refuse", (f"no command '{given}'; there are {', '.join(COMMANDS)}",))
    if state.phase in ENDED:
        return state, _same(state, "refuse", (f"{given}: the rollout is over, it was {state.phase}",))
    if given == "promote":
        return _ended(state, "promote", now, ("by command",))
    if given == "abort":
        return _ended(state, "roll_back", now, ("by command",))
    if given == "pause":
        if state.phase != "running":
            return state, _same(state, "refuse", (f"pause: it is {state.phase}",))
        paused = replace(state, phase="paused", changed=now)
        return _decided(paused, _same(paused, "pause", ("by command",)), now)
    if state.phase != "paused":
        return state, _same(state, "refuse", (f"resume: it is {state.phase}, not paused",))
    away = max(0.0, now - state.changed)
    hold_since = None if state.hold_since is None else state.hold_since + away
    going = replace(
        state, phase="running", changed=now, step_since=state.step_since + away, hold_since=hold_since
    )  # fmt: skip
    return _decided(going, _same(going, "resume", ("by command",)), now)


def _held(settings: Rollout, state: State, now: float, found: Assessment) -> Next:
    """Hold a step that has baked and of which not enough is known."""
    since = now if state.hold_since is None else state.hold_since
    if settings.give_up_s and now - since >= settings.give_up_s:
        reason = f"held for {now - since:.0f} s, longer than give_up_s={settings.give_up_s:g}"
        return _ended(state, "roll_back", now, (reason, *found.reasons), found)
    decision = _same(state, "hold", (f"{_place(settings, state)} held for {now - since:.0f} s", *found.reasons), found)
    held = replace(state, hold_since=since)
    return _decided(held, decision, now) if state.hold_since is None else (held, decision)


def _passed(settings: Rollout, state: State, now: float, found: Assessment) -> Next:
    """Go on from a step that has baked and of which enough is known."""
    reasons = (f"{_place(settings, state)} passed", *found.reasons)
    if state.strategy == "ab" and not settings.ab_promote:
        finished: Phase = "finished"
        ended = replace(state, phase=finished, changed=now, hold_since=None)
        return _decided(ended, _same(ended, "finish", reasons, found), now)
    if state.step + 1 >= len(settings.shares) or state.share >= 1:
        return _ended(state, "promote", now, reasons, found)
    step = state.step + 1
    share = settings.shares[step]
    if share >= 1 and not settings.watch_s:
        return _ended(replace(state, step=step), "promote", now, reasons, found)
    stepped = replace(
        state, step=step, share=share, step_since=now, changed=now, hold_since=None, watch=next_step(state.watch)
    )
    return _decided(stepped, _same(stepped, "step", reasons, found), now)


def _ended(
    state: State, action: Action, now: float, reasons: tuple[str, ...], found: Assessment | None = None
) -> Next:  # fmt: skip
    phase: Phase = "promoted" if action == "promote" else "rolled_back"
    share = 1.0 if action == "promote" else 0.0
    ended = replace(state, phase=phase, share=share, shadow=0.0, changed=now, hold_since=None)
    return _decided(ended, Decision(action, share, reasons, 0.0, found), now)


def _decided(state: State, decision: Decision, now: float) -> Next:
    return state.logged(decision, now), decision


def _same(
    state: State, action: Action, reasons: tuple[str, ...], found: Assessment | None = None
) -> Decision:  # fmt: skip
    return Decision(action, state.share, reasons, state.shadow, found)


def _bake_s(settings: Rollout, state: State) -> float:
    if state.strategy == "ab":
        return settings.ab_s
    return settings.watch_s if state.share >= 1 else settings.bake_s


def _place(settings: Rollout, state: State) -> str:
    if state.shadow:
        return f"shadow of {state.shadow:.4g}"
    if state.strategy == "canary":
        return f"step {state.step + 1} of {len(settings.shares)} ({state.share:.4g})"
    return f"{state.strategy} ({state.share:.4g})"
