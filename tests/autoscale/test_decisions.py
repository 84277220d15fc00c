"""Decisions about replicas: what asks for more, what keeps it steady, what is never done."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest

from largeforge.autoscale import Decision, Observation, State, decide, start, targets
from largeforge.recipe.schema import Autoscaling, Slo

EVERY = 5.0
SLO = Slo.model_validate({"objectives": {"answer": {"indicator": "latency", "objective": 0.95, "threshold_ms": 1000}}})
QUIET = Observation(ready=1, most=4, requests=1)


class Scaled:
    """An expert whose replicas are what was decided, `start_s` later."""

    def __init__(self, *, running: int = 1, start_s: float = 0.0, now: float = 0.0, **settings: Any):
        self.settings = Autoscaling(cache_use=0, **settings)
        self.aims = targets(self.settings, SLO, max_num_seqs=10)  # aimed at 8 in flight each
        self.now, self.start_s = now, start_s
        self.state = start(now, running=running)
        self.begun: list[float] = []
        self.ready = running

    def look(self, seen: Observation) -> Decision:
        while self.begun and self.begun[0] + self.start_s <= self.now:
            self.begun.pop(0)
            self.ready += 1
        seen = replace(seen, ready=self.ready, starting=len(self.begun))
        self.state, decision = decide(self.settings, self.aims, self.state, seen, self.now)
        assert decision.wanted == self.state.wanted <= seen.most
        more = decision.wanted - self.ready - len(self.begun)
        self.begun += [self.now] * more
        self.ready += min(0, more)
        self.now += EVERY
        return decision

    def run(self, seconds: float, seen: Observation) -> list[int]:
        """Return what was wanted at each look."""
        return [self.look(seen).wanted for _ in range(int(seconds / EVERY))]


def asked(in_flight: float, **more: Any) -> Observation:
    return Observation(ready=0, most=more.pop("most", 4), in_flight=in_flight, **more)


def test_more_are_started_once_they_were_needed_for_the_whole_window() -> None:
    scaled = Scaled()
    wanted = scaled.run(120, asked(12))
    assert wanted.index(2) * EVERY == 60
    assert set(wanted[12:]) == {2}
    assert scaled.state.log[-1].reasons == ("12 requests in flight", "for 60 s")


def test_a_peak_that_is_shorter_than_the_window_starts_nothing() -> None:
    scaled = Scaled()
    assert {*scaled.run(60, asked(4)), *scaled.run(50, asked(12)), *scaled.run(60, asked(4))} == {1}


def test_only_what_was_needed_all_the_time_is_started() -> None:
    scaled = Scaled(panic=0)
    scaled.run(60, asked(4))
    scaled.run(30, asked(30))
    assert 4 not in scaled.run(60, asked(12)) and scaled.state.wanted == 2


def test_what_starts_counts_as_there() -> None:
    scaled = Scaled(start_s=300, up_s=0)
    assert scaled.run(200, asked(12)) == [2] * 40
    assert len(scaled.begun) == 1, "one is started, not one at every look"
    scaled.run(200, asked(12, waiting=9))
    assert scaled.ready + len(scaled.begun) == 3


def test_far_too_much_does_not_wait_for_the_window() -> None:
    scaled = Scaled()
    scaled.run(30, asked(4))
    assert scaled.run(15, asked(20)) == [1, 3, 3], "at the second look in a row"
    assert "more than 2 times" in scaled.state.log[-1].reasons[-1]
    calm = Scaled(panic=0)
    calm.run(30, asked(4))
    assert set(calm.run(15, asked(20))) == {1}


def test_fewer_are_wanted_once_they_were_enough_for_the_whole_window() -> None:
    scaled = Scaled(running=3)
    wanted = scaled.run(400, asked(12))
    assert wanted.index(2) * EVERY == 300
    assert scaled.state.log[-1].reasons == ("2 have been enough for 300 s",)


def test_a_peak_in_the_window_keeps_what_it_needed() -> None:
    scaled = Scaled(running=3)
    scaled.run(200, asked(4))
    scaled.run(5, asked(24))
    assert set(scaled.run(290, asked(4))) == {3}
    assert scaled.run(20, asked(4))[-1] == 1


@pytest.mark.parametrize("in_flight", [8.0, 8.7, 7.3])
def test_nothing_changes_within_the_tolerance(in_flight: float) -> None:
    assert set(Scaled().run(400, asked(in_flight))) == {1}
    assert set(Scaled(running=2).run(400, asked(2 * in_flight))) == {2}


def test_it_stays_between_least_and_most() -> None:
    scaled = Scaled(min_replicas=2, running=2)
    assert set(scaled.run(700, asked(0))) == {2}
    assert max(scaled.run(700, asked(900, waiting=50, most=3))) == 3
    assert set(scaled.run(50, asked(900, most=1))) == {1}, "what does not fit is not wanted"


def test_a_promised_latency_that_is_exceeded_asks_for_one_more() -> None:
    slow = asked(4, latencies_ms={"slo-answer": 1500.0})
    scaled = Scaled(start_s=500)
    assert scaled.run(300, slow)[-1] == 2, "not one more at every look while it starts"
    assert "p95 of latency is 1500 ms of 1000 ms" in scaled.state.log[-1].reasons
    assert set(Scaled().run(300, asked(4, latencies_ms={"slo-answer": 1050.0}))) == {1}
    assert set(Scaled(running=2).run(600, asked(4, latencies_ms={"slo-answer": 950.0}))) == {2}, "close to it: all stay"
    assert set(Scaled(latency=False).run(300, slow)) == {1}
    assert set(Scaled().run(300, asked(0.5, latencies_ms={"slo-answer": 1500.0}))) == {1}, "one long answer alone"


def test_a_queue_asks_for_one_more_and_what_waits_counts_as_asked() -> None:
    assert Scaled().run(100, asked(2, waiting=5))[-1] == 2
    assert Scaled().run(100, asked(10, waiting=20))[-1] == 4
    assert set(Scaled().run(100, asked(2, waiting=3))) == {1}


def test_cache_and_gpu_use_ask_for_as_many_as_bring_them_to_their_target() -> None:
    settings = Autoscaling(cache_use=0.9, gpu_use=0.5)
    aims = targets(settings, Slo(), max_num_seqs=10)
    for key, used, wanted in (("cache_use", 1.0, 3), ("cache_use", 0.85, 2), ("gpu_use", 0.9, 4), ("gpu_use", 0.5, 2)):
        state = start(0, running=2)
        for look in range(20):
            seen = Observation(ready=2, most=8, in_flight=3, **{key: used})  # type: ignore[arg-type]
            state, decision = decide(settings, aims, state, seen, look * EVERY)
        assert decision.wanted == wanted, (key, used)


def test_nobody_asks_so_the_last_one_stops_and_the_first_request_wakes_it() -> None:
    scaled = Scaled(min_replicas=0, idle_s=600, start_s=60)
    wanted = scaled.run(1000, asked(0))
    assert wanted.index(0) * EVERY == 600
    assert scaled.run(5, asked(0, waiting=1)) == [1]
    assert "wakes up" in scaled.state.log[-1].reasons
    assert set(scaled.run(500, asked(0))) == {1}, "it stays for idle_s again"


def test_one_request_now_and_then_keeps_the_last_one() -> None:
    scaled = Scaled(min_replicas=0, idle_s=600)
    for _ in range(5):
        assert set(scaled.run(500, asked(0))) == {1}
        scaled.look(asked(0, requests=1))


def test_with_at_least_one_nothing_stops_altogether() -> None:
    assert set(Scaled(idle_s=60).run(2000, asked(0))) == {1}


WEEK = 7 * 86400.0


def _weeks(scaled: Scaled, num: int) -> None:
    """Live through weeks in which 20 requests are in flight from hour 10 to 12 of each."""
    begin = scaled.now
    while scaled.now < begin + num * WEEK:
        hour = scaled.now % WEEK / 3600
        scaled.look(asked(20 if 10 <= hour < 12 else 1))
        scaled.now += 25.0  # a look every 30 s


def test_replicas_are_there_before_the_hour_that_needed_them_in_weeks_before() -> None:
    scaled = Scaled(predictive=True, start_s=120, now=0.0)
    _weeks(scaled, 2)
    scaled.now += 10 * 3600 - 185
    assert scaled.look(replace(asked(1), start_s=120.0)).wanted == 1
    scaled.now += 5
    decision = scaled.look(replace(asked(1), start_s=120.0))
    assert decision.wanted == 3, "start_s + up_s = 180 s ahead"
    assert decision.reasons == ("20 requests in flight are expected, as in weeks before",)
    assert set(scaled.run(3600, asked(1))) == {3}, "kept, since they are expected to be needed"


def test_without_weeks_before_nothing_is_foretold() -> None:
    scaled = Scaled(predictive=True)
    assert set(scaled.run(7200, asked(1))) == {1}
    unasked = Scaled(predictive=False)
    _weeks(unasked, 1)
    unasked.now += 10 * 3600 - 100
    assert unasked.look(asked(1)).wanted == 1


def test_the_state_goes_on_after_it_was_written_down() -> None:
    scaled, other = Scaled(), Scaled()
    for one in (scaled, other):
        one.run(90, asked(12))
        one.run(150, asked(3))
    other.state = State.from_json(json.loads(json.dumps(other.state.as_json())))
    assert scaled.run(400, asked(3)) == other.run(400, asked(3))
    assert scaled.state == other.state


def test_a_state_that_is_not_understood_is_refused() -> None:
    with pytest.raises(ValueError, match="version 7"):
        State.from_json({"version": 7})
    with pytest.raises(ValueError, match="incomplete"):
        State.from_json({"version": 1, "wanted": 1})


@pytest.mark.parametrize("found", [None, [], 7, "state", {}])
def test_json_of_another_shape_is_refused(found: Any) -> None:
    with pytest.raises(ValueError, match="version None"):
        State.from_json(found)


@pytest.mark.parametrize(
    "damage",
    [
        {"wanted": "2"}, {"since": None}, {"looked": float("nan")}, {"pressed": []}, {"idle_since": "long ago"},
        {"needs": [[1.0]]}, {"needs": [[1.0, 2, 3]]}, {"needs": 5}, {"log": [{"time": 1}]}, {"log": ["?"]},
        {"history": {}}, {"history": {"hours": {"monday": []}}}, {"pace": {"demand": 1.0}}, {"pace": []},
        {"wanted": float("inf")},
    ],
)  # fmt: skip
def test_a_state_with_anything_that_cannot_be_counted_with_is_refused(damage: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="incomplete"):
        State.from_json({**start(0.0, running=1).as_json(), **damage})
    assert State.from_json(start(0.0, running=1).as_json()) == start(0.0, running=1)


def test_after_a_pause_windows_begin_anew() -> None:
    scaled = Scaled(running=3)
    scaled.run(290, asked(4))
    scaled.now += 3600
    assert set(scaled.run(295, asked(4))) == {3}
    assert scaled.run(20, asked(4))[-1] == 1


def test_one_look_after_a_short_pause_is_no_window() -> None:
    scaled = Scaled(running=2, down_s=60)
    scaled.run(100, asked(12))
    scaled.now += 65
    assert set(scaled.run(25, asked(1))) == {2}
    assert scaled.run(60, asked(1))[-1] == 1


def test_whatever_is_seen_it_stays_within_bounds_and_equal_input_gives_equal_output() -> None:
    rng = random.Random(7)
    for _ in range(200):
        settings = Autoscaling(
            min_replicas=rng.choice((0, 1, 2)), up_s=rng.choice((0, 60)), down_s=rng.choice((0, 300)), idle_s=60,
            predictive=rng.random() < 0.5, panic=rng.choice((0, 2)), gpu_use=rng.choice((0, 0.5)),
        )  # fmt: skip
        aims = targets(settings, SLO, max_num_seqs=8)
        state, now, ready = start(0, running=rng.randint(0, 3)), 0.0, 1
        for _ in range(100):
            now += rng.choice((5, 5, 5, 400, 3600))
            most = rng.randint(0, 4)
            seen = Observation(
                ready=min(ready, most), most=most, starting=rng.randint(0, 2), in_flight=rng.choice((0, 0, 5, 500)),
                waiting=rng.choice((0, 0, 90)), requests=rng.choice((0, 1)), gpu_use=rng.choice((None, 0.0, 1.0)),
                latencies_ms=rng.choice(({}, {"slo-answer": 9e5})),
            )  # fmt: skip
            again = decide(settings, aims, State.from_json(json.loads(json.dumps(state.as_json()))), seen, now)
            state, decision = decide(settings, aims, state, seen, now)
            assert again == (state, decision)
            assert min(settings.min_replicas, most) <= decision.wanted <= most
            ready = decision.wanted
