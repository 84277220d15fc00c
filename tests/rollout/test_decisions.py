"""Rollouts step by step: what each strategy does, what commands do, and that nothing raises."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from largeforge.recipe.sections.rollouts import Rollout
from largeforge.rollout import COMMANDS, Arm, Decision, Graded, Observation, State, command, decide, start
from largeforge.rollout.state import ENDED, LOGGED

BEFORE = Arm(5000, 5, judge=Graded(450, 500))
Step = tuple[float, str, float]
"""Time, action, share."""


def traffic(share: float, *, requests: int = 2000, errors: float = 0.0, **canary: Any) -> Observation:
    ours = round(requests * share)
    return Observation(Arm(ours, round(ours * errors), **canary), Arm(requests - ours, 0))


def walk(
    wanted: Rollout, *, looks: int, every: float = 100.0, errors: float = 0.0, requests: int = 2000, **canary: Any
) -> tuple[list[Step], State]:
    """Go through a rollout with the same traffic at each look; return what was decided but to wait, and the end."""
    state, decision = start(wanted, 0.0, before=BEFORE)
    steps = [(0.0, decision.action, decision.share)]
    for look in range(1, looks + 1):
        share = state.share or (wanted.shadow_share if state.shadow else 0.0)
        period = traffic(share, requests=requests, errors=errors, **canary)
        state, decision = decide(wanted, state, period, look * every)
        if decision.action != "wait":
            steps.append((look * every, decision.action, decision.share))
    return steps, state


def test_a_canary_goes_from_step_to_step_and_is_watched_at_the_end() -> None:
    steps, state = walk(Rollout(), looks=30)
    assert steps == [
        (0, "step", 0.05), (600, "step", 0.25), (1200, "step", 0.5), (1800, "step", 1.0), (2100, "promote", 1.0),
    ]  # fmt: skip
    assert (state.phase, state.share) == ("promoted", 1.0)
    assert [entry.action for entry in state.log] == ["step", "step", "step", "step", "promote"]
    assert state.log[1].reasons[0] == "step 1 of 4 (0.05) passed"
    assert state.log[1].verdicts == {"errors": "fine"}


def test_a_canary_that_fails_goes_back_with_the_reason() -> None:
    steps, state = walk(Rollout(), looks=5, errors=0.05)
    assert steps == [(0, "step", 0.05), (100, "roll_back", 0.0)]
    assert state.phase == "rolled_back"
    assert "errors: 5 of 100 requests of the canary (5.00%)" in state.log[-1].reasons[0]
    assert state.log[-1].verdicts["errors"] == "worse"


def test_without_traffic_a_step_is_held_and_says_since_when() -> None:
    wanted = Rollout(bake_s=200)
    steps, state = walk(wanted, looks=6, requests=200)
    assert steps[:3] == [(0, "step", 0.05), (200, "hold", 0.05), (300, "hold", 0.05)]
    assert (state.phase, state.hold_since, state.step) == ("running", 200, 0)
    assert [entry.action for entry in state.log] == ["step", "hold"], "holding on is not logged again"
    _, decision = decide(wanted, state, traffic(0.05, requests=200), 700)
    assert decision.reasons[0] == "step 1 of 4 (0.05) held for 500 s"
    assert "70 of the 200 requests of the canary that are needed" in decision.reasons[1]


def test_a_held_step_goes_on_when_there_is_enough() -> None:
    steps, _ = walk(Rollout(bake_s=100, steps=[0.1], watch_s=0), looks=9, requests=500)
    assert steps[-1] == (400, "promote", 1.0), "200 canary requests are needed"
    assert {action for _, action, _ in steps[1:-1]} == {"hold"}


def test_a_step_held_for_too_long_is_given_up() -> None:
    steps, state = walk(Rollout(bake_s=100, give_up_s=300), looks=9, requests=40)
    assert steps[-1] == (400, "roll_back", 0.0)
    assert state.log[-1].reasons[0] == "held for 300 s, longer than give_up_s=300"


def test_without_a_watch_the_last_step_promotes() -> None:
    steps, _ = walk(Rollout(steps=[0.5], watch_s=0), looks=8)
    assert steps == [(0, "step", 0.5), (600, "promote", 1.0)]


def test_a_canary_that_fails_only_with_all_of_the_traffic_goes_back() -> None:
    state, _ = start(Rollout(steps=[0.5]), 0.0, before=BEFORE)
    state, _ = decide(Rollout(steps=[0.5]), state, traffic(0.5), 600)
    assert state.share == 1.0
    state, decision = decide(Rollout(steps=[0.5]), state, traffic(1.0, errors=0.05), 700)
    assert (decision.action, decision.share) == ("roll_back", 0.0)


def test_blue_green_switches_at_once_and_watches() -> None:
    steps, _ = walk(Rollout(strategy="blue_green"), looks=5)
    assert steps == [(0, "step", 1.0), (300, "promote", 1.0)]
    back, _ = walk(Rollout(strategy="blue_green"), looks=5, errors=0.05)
    assert back == [(0, "step", 1.0), (100, "roll_back", 0.0)]
    wrong, state = walk(Rollout(strategy="blue_green"), looks=5, judge=Graded(60, 100))
    assert wrong[-1][1] == "roll_back", "stable was right in 90 % before"
    assert "judge" in state.log[-1].reasons[0]


def test_blue_green_without_traffic_is_held() -> None:
    steps, _ = walk(Rollout(strategy="blue_green", give_up_s=200), looks=9, requests=5)
    assert steps == [(0, "step", 1.0), (300, "hold", 1.0), (400, "hold", 1.0), (500, "roll_back", 0.0)]


def test_immediate_asks_nothing() -> None:
    steps, state = walk(Rollout(strategy="immediate"), looks=2, errors=1.0)
    assert steps == [(0, "promote", 1.0)]
    assert state.phase == "promoted"


def test_a_shadow_is_promoted_by_its_agreement_and_serves_nobody_before() -> None:
    wanted = Rollout(strategy="shadow", shadow_share=0.5)
    _, decision = start(wanted, 0.0)
    assert (decision.share, decision.shadow) == (0.0, 0.5)
    steps, _ = walk(wanted, looks=8, agreement=Graded(95, 100))
    assert steps == [(0, "step", 0.0), (600, "promote", 1.0)]
    bad, end = walk(wanted, looks=8, agreement=Graded(50, 100))
    assert bad == [(0, "step", 0.0), (100, "roll_back", 0.0)]
    assert "agreement (bad ones): 50 of 100 requests of the canary (50.00%): worse than 20%" in end.log[-1].reasons[0]


def test_a_shadow_whose_answers_nobody_compares_is_held() -> None:
    steps, state = walk(Rollout(strategy="shadow"), looks=8)
    assert [action for _, action, _ in steps] == ["step", "hold", "hold", "hold"]
    assert "agreement: 0 of the 50 requests" in " ".join(state.log[-1].reasons)


def test_ab_ends_with_a_report_and_keeps_its_shares_until_a_command() -> None:
    wanted = Rollout(strategy="ab", ab_share=0.3, ab_s=500)
    steps, state = walk(wanted, looks=9)
    assert steps == [(0, "step", 0.3), (500, "finish", 0.3)]
    assert (state.phase, state.share) == ("finished", 0.3)
    assert "errors: 0 of 3000 requests" in " ".join(state.log[-1].reasons)
    ended, decision = command(wanted, state, "promote", 1000)
    assert (ended.phase, decision.share) == ("promoted", 1.0)
    told, _ = walk(Rollout(strategy="ab", ab_s=500, ab_promote=True), looks=9)
    assert told[-1] == (500, "promote", 1.0)


def test_pausing_keeps_the_share_does_not_bake_and_still_sends_back_what_is_worse() -> None:
    wanted = Rollout()
    state, _ = start(wanted, 0.0, before=BEFORE)
    state, _ = decide(wanted, state, traffic(0.05), 500)
    state, decision = command(wanted, state, "pause", 500)
    assert (decision.action, decision.share) == ("pause", 0.05)
    state, decision = decide(wanted, state, traffic(0.05), 5000)
    assert (decision.action, decision.reasons) == ("wait", ("paused since 4500 s",))
    resumed, decision = command(wanted, state, "resume", 5000)
    assert (decision.action, resumed.phase) == ("resume", "running")
    assert decide(wanted, resumed, traffic(0.05), 5050)[1].action == "wait", "550 s of 600 s"
    assert decide(wanted, resumed, traffic(0.05), 5100)[1].action == "step"
    assert decide(wanted, state, traffic(0.05, errors=0.2), 5100)[1].action == "roll_back"


def test_time_of_a_hold_stands_still_while_paused() -> None:
    wanted = Rollout(bake_s=100, give_up_s=300)
    state, _ = start(wanted, 0.0)
    state, _ = decide(wanted, state, traffic(0.05, requests=20), 100)
    state, _ = command(wanted, state, "pause", 200)
    state, _ = command(wanted, state, "resume", 10_000)
    assert state.hold_since == 9900
    assert decide(wanted, state, traffic(0.05, requests=20), 10_100)[1].action == "hold"


@pytest.mark.parametrize(
    ("given_before", "refused", "reason"),
    [
        ([], "resume", "resume: it is running, not paused"),
        (["pause"], "pause", "pause: it is paused"),
        (["promote"], "abort", "abort: the rollout is over, it was promoted"),
        (["abort"], "promote", "promote: the rollout is over, it was rolled_back"),
        ([], "stop", "no command 'stop'; there are pause, resume, promote, abort"),
    ],
)
def test_commands_that_do_not_fit_are_refused_and_change_nothing(
    given_before: list[str], refused: str, reason: str
) -> None:
    state, _ = start(Rollout(), 0.0)
    for earlier in given_before:
        state, _ = command(Rollout(), state, earlier, 1.0)
    after, decision = command(Rollout(), state, refused, 2.0)
    assert (after, decision) == (state, Decision("refuse", state.share, (reason,)))


STRATEGIES = ("canary", "blue_green", "shadow", "ab", "immediate")
events = st.lists(
    st.one_of(
        st.sampled_from([*COMMANDS, "nonsense"]),
        st.tuples(st.integers(0, 500), st.integers(0, 500), st.floats(0, 1), st.floats(0, 1)),
    ),
    max_size=15,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(STRATEGIES), events, st.lists(st.floats(-50, 900), min_size=15, max_size=15))
def test_anything_may_happen_at_any_time(strategy: Any, happens: list[Any], passes: list[float]) -> None:
    wanted = Rollout(strategy=strategy, bake_s=300, min_requests=20, give_up_s=1000, ab_s=500)
    state, decision = start(wanted, 0.0)
    now = 0.0
    for event, passed in zip(happens, passes, strict=False):
        now += passed  # a clock may also go back
        before = state
        if isinstance(event, str):
            state, decision = command(wanted, state, event, now)
        else:
            canary, stable, bad, good = event
            ours = Arm(canary, int(bad * canary), judge=Graded(int(good * canary), canary))
            state, decision = decide(wanted, state, Observation(ours, Arm(stable)), now)
        assert (decision.share, decision.shadow) == (state.share, state.shadow)
        assert 0 <= state.share <= 1
        assert decision.reasons
        if before.phase in ENDED:
            assert state == before
        assert State.from_json(json.loads(json.dumps(state.as_json()))) == state
    if state.phase in ENDED:
        assert state.share == (1.0 if state.phase == "promoted" else 0.0)


def test_a_restart_between_two_looks_changes_nothing() -> None:
    wanted, period = Rollout(), traffic(0.05, errors=0.01)
    kept, _ = start(wanted, 0.0, before=BEFORE)
    restarted = kept
    for look in range(1, 9):
        kept, decision = decide(wanted, kept, period, look * 100)
        restarted = State.from_json(json.loads(json.dumps(restarted.as_json())))
        restarted, again = decide(wanted, restarted, period, look * 100)
        assert (again, restarted) == (decision, kept)


def test_a_state_of_another_version_or_a_broken_one_is_refused() -> None:
    found = start(Rollout(), 0.0)[0].as_json()
    with pytest.raises(ValueError, match="has version 99; 1 is understood"):
        State.from_json({**found, "version": 99})
    with pytest.raises(ValueError, match="incomplete"):
        State.from_json({name: value for name, value in found.items() if name != "share"})


def test_settings_with_fewer_steps_than_a_running_rollout_has_taken_end_it_well() -> None:
    state, _ = start(Rollout(), 0.0, before=BEFORE)
    state = replace(state, step=2, share=0.5)
    _, decision = decide(Rollout(steps=[0.1]), state, traffic(0.5), 700)
    assert decision.action == "promote"


def test_the_log_keeps_its_newest_lines() -> None:
    state, decision = start(Rollout(), 0.0)
    for now in range(LOGGED + 50):
        state = state.logged(decision, float(now))
    assert (len(state.log), state.log[-1].time) == (LOGGED, LOGGED + 49)


def test_steps_must_rise_and_end_with_all_of_the_traffic() -> None:
    assert Rollout(steps=[0.1, 0.5]).shares == (0.1, 0.5, 1.0)
    assert Rollout(steps=[0.1, 1]).shares == (0.1, 1.0)
    with pytest.raises(ValueError, match="shares must rise"):
        Rollout(steps=[0.5, 0.1])
    with pytest.raises(ValueError, match="steps"):
        Rollout(steps=[0])
