"""How many replicas are to run: (settings, targets, state, observation, now) -> (state, decision). Pure, and total.

    state = start(now, running=2)
    state, decision = decide(scaling, targets, state, observation, now)       at every look

Whoever calls this keeps `state.as_json()` before acting on a decision, so that after a crash the same goes on. Replicas
that start count as there, so that nothing is started twice.

What keeps it steady are windows as Kubernetes has them: up to the least, down to the most that was needed within one
(https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/, "Stabilization window"). A
window is not judged before it was looked at for as long. As Knative's panic mode does, a load of twice what replicas
are meant for does not wait (https://knative.dev/docs/serving/autoscaling/kpa-specific, "Panic mode"). The last replica
goes by a time of its own, as with Ray Serve's `downscale_to_zero_delay_s` and KEDA's `cooldownPeriod`, and the first
request that waits brings one back at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from largeforge.autoscale.needs import Need, needs, of_demand
from largeforge.autoscale.pace import Pace
from largeforge.autoscale.state import Decision, State

if TYPE_CHECKING:
    from largeforge.autoscale.observations import Observation
    from largeforge.autoscale.targets import Target
    from largeforge.recipe.sections.autoscaling import Scaling

PANIC_LOOKS = 2
"""Looks in a row at which far too much is asked before that is believed."""
QUIET = 0.5
"""Requests in flight, in the highest five minutes of an hour, under which none is started ahead of them."""
PAUSE_S = 120.0
"""Time without a look after which windows begin anew: what was needed meanwhile is not known."""


def start(now: float, *, running: int) -> State:
    """Begin with what runs."""
    return State(wanted=running, since=now, looked=now, pace=Pace(ready=running))


def decide(
    scaling: Scaling, targets: Sequence[Target], state: State, seen: Observation, now: float
) -> tuple[State, Decision]:  # fmt: skip
    """Return how many replicas are to run after a look, and why."""
    if now - state.looked > PAUSE_S:
        state = replace(state, since=now, needs=(), pressed=0, idle_since=None, pace=Pace(ready=seen.ready))
    pace = state.pace.observed(seen, now - state.looked, now)
    asked = pace.asked(seen)
    found = needs(
        targets, seen, asked, wanted=state.wanted, tolerance=scaling.tolerance, is_settled=pace.is_settled(now)
    )
    floor, foretold = _foretold(scaling, targets, state, seen, now)
    most, least = seen.most, min(scaling.min_replicas, seen.most)
    need = min(most, max(least, 1, floor, *(one.replicas for one in found)))
    load = max((one.load for one in found), default=0.0)
    reach = max(scaling.up_s, scaling.down_s)
    state = replace(
        state, looked=now, pressed=state.pressed + 1 if scaling.panic and load >= scaling.panic else 0,
        needs=(*(one for one in state.needs if one[0] >= now - reach), (now, need)),
        idle_since=None if not seen.is_idle else now if state.idle_since is None else state.idle_since,
        history=state.history.observed(asked, now, weeks=scaling.weeks), pace=pace,
    )  # fmt: skip
    wanted, reasons = _wanted(scaling, state, seen, found, floor, need, now)
    if wanted == floor > state.wanted:
        reasons = (foretold,)
    decision = Decision(min(most, max(least, wanted)), reasons)
    return state.decided(decision, now), decision


def _wanted(
    scaling: Scaling, state: State, seen: Observation, found: Sequence[Need], floor: int, need: int, now: float
) -> tuple[int, tuple[str, ...]]:  # fmt: skip
    """Return how many are wanted between what is allowed, and why."""
    reasons = tuple(one.reason for one in found if min(seen.most, one.replicas) == need)
    if state.wanted == 0:
        if seen.waiting or seen.in_flight:
            return need, (*reasons, "wakes up")
        return floor, ("nobody asks",)
    idle_s = now - state.idle_since if state.idle_since is not None else 0.0
    if not scaling.min_replicas and not floor and state.idle_since is not None and idle_s >= scaling.idle_s:
        return 0, (f"nobody has asked for {idle_s:.0f} s",)
    if need > state.wanted and state.pressed >= PANIC_LOOKS:
        return need, (*reasons, f"more than {scaling.panic:g} times what is running is meant for")
    up = _over(state, scaling.up_s, now, min)
    if up > state.wanted:
        return max(up, floor), (*reasons, f"for {scaling.up_s:.0f} s")
    down = _over(state, scaling.down_s, now, max)
    if down < state.wanted:
        return max(down, floor), (f"{down} have been enough for {scaling.down_s:.0f} s",)
    return max(state.wanted, floor), reasons


def _over(state: State, window_s: float, now: float, safest: Callable[[Iterable[int]], int]) -> int:
    """Return the safest need within a window; what is wanted now where it was not looked at for as long, or not in the
    first half of it, as after a restart."""
    inside = [one for one in state.needs if one[0] >= now - window_s]
    if now - state.since < window_s or now - inside[0][0] < window_s / 2:
        return state.wanted
    return safest(need for _, need in inside)


def _foretold(
    scaling: Scaling, targets: Sequence[Target], state: State, seen: Observation, now: float
) -> tuple[int, str]:  # fmt: skip
    """Return how many replicas are to be there by what weeks before have needed, 0 where nothing is known."""
    if not scaling.predictive:
        return 0, ""
    lead_s = (seen.start_s or scaling.start_s) + scaling.up_s
    demand = state.history.expected(now, now + lead_s)
    if demand is None or demand < QUIET:
        return 0, ""
    reason = f"{demand:.0f} requests in flight are expected, as in weeks before"
    wanted = of_demand(demand, targets, wanted=state.wanted, tolerance=scaling.tolerance)
    return min(seen.most, wanted), reason
