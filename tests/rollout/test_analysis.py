"""What is said of a canary: which metrics are worse, in words with numbers, and what there is not enough of."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from largeforge.gateway.metrics import DURATION_BUCKETS
from largeforge.recipe.sections.rollouts import Analysis
from largeforge.rollout import watch as watches
from largeforge.rollout.analysis import Assessment, assess
from largeforge.rollout.metrics import tests as all_tests
from largeforge.rollout.observations import SIGNALS, Arm, Graded, Histogram, Observation
from largeforge.rollout.watch import Watch, look, next_step

SETTINGS = Analysis()


def times(quick: int, slow: int, slow_s: float = 4.0) -> Histogram:
    return Histogram.of_times(DURATION_BUCKETS, [0.3] * quick + [slow_s] * slow)


def arm(requests: int, **given: Any) -> Arm:
    return replace(Arm(requests, 0, times(requests - requests // 20, requests // 20)), **given)


BEFORE = arm(2000, errors=2, ttft=times(1900, 100, 0.8))


def watched(periods: list[Observation], settings: Analysis = SETTINGS, *, alone: bool = False) -> Watch:
    watch = Watch(before=BEFORE)
    for period in periods:
        watch = look(settings, watch, period, alone=alone)
    return watch


def assessed(
    canary: Arm, stable: Arm, *, looks: int = 10, settings: Analysis = SETTINGS, alone: bool = False
) -> Assessment:
    watch = watched([Observation(canary, stable)] * looks, settings, alone=alone)
    return assess(settings, watch, min_requests=200, alone=alone)


def outcomes(found: Assessment) -> dict[str, str]:
    return {verdict.metric: verdict.outcome for verdict in found.verdicts}


def test_a_canary_like_stable_is_fine() -> None:
    found = assessed(arm(40), arm(760))
    assert found.outcome == "fine"
    assert set(outcomes(found).values()) == {"fine"}
    assert found.e_value < 1


def test_a_canary_that_fails_more_often_is_worse_and_the_reason_says_how_much() -> None:
    found = assessed(arm(40, errors=2), arm(760, errors=1))
    assert (found.outcome, outcomes(found)["errors"]) == ("worse", "worse")
    (reason,) = found.reasons
    assert reason.startswith("errors: 20 of 400 requests of the canary (5.00%), 10 of 7600 of stable's (0.13%): worse ")
    assert "1 / alpha is 100" in reason


def test_what_both_suffer_is_not_the_canarys_fault() -> None:
    calm = Observation(arm(40), arm(760))
    out = Observation(arm(40, errors=16, duration=times(10, 30)), arm(760, errors=300, duration=times(190, 570)))
    found = assess(SETTINGS, watched([calm] * 5 + [out] * 3 + [calm] * 5), min_requests=200)
    assert found.outcome == "not_enough" and found.e_value < 1
    assert "may be" in found.reasons[0], "so many errors leave room for a difference: it waits, and blames nobody"
    longer = assess(SETTINGS, watched([calm] * 5 + [out] * 3 + [calm] * 60), min_requests=200)
    assert longer.outcome == "fine"


def test_a_slower_canary_is_worse_by_stables_own_percentiles() -> None:
    found = assessed(arm(40, duration=times(28, 12)), arm(760))
    assert outcomes(found)["latency_p95"] == "worse"
    assert "latency_p95 (slower than 0.5 s): 120 of 400 requests of the canary (30.00%)" in " ".join(found.reasons)


def test_a_slower_first_token_is_worse() -> None:
    found = assessed(arm(40, ttft=times(20, 20, 0.8)), arm(760, ttft=times(722, 38, 0.8)))
    assert outcomes(found)["ttft_p95"] == "worse"


def test_a_limit_of_p99_finds_what_is_slower_than_it_but_not_where_stable_is_too() -> None:
    quick = arm(760, duration=times(760, 0))
    settings = Analysis(latency_p95={"weight": 0})
    watch = Watch(before=replace(BEFORE, duration=times(2000, 0)))
    for _ in range(10):
        watch = look(settings, watch, Observation(arm(40, duration=times(36, 4)), quick))
    found = assess(settings, watch, min_requests=200)
    assert outcomes(found) == {"errors": "fine", "latency": "worse"}, "stable has no p99 among its buckets"
    both = assessed(arm(40, duration=times(20, 20)), arm(760, duration=times(380, 380)), looks=40)
    assert outcomes(both)["latency"] == "fine"


@pytest.mark.parametrize("signal", ["schema_valid", "judge", "thumbs"])
def test_worse_answers_are_found_by_each_signal_of_quality(signal: str) -> None:
    canary, stable = arm(40, **{signal: Graded(12, 20)}), arm(760, **{signal: Graded(360, 380)})
    found = assessed(canary, stable)
    assert outcomes(found)[signal] == "worse"
    assert f"{signal} (bad ones): 80 of 200 requests of the canary (40.00%)" in found.reasons[0]
    off = assessed(canary, stable, settings=Analysis(triggers={"quality": False}))
    assert off.outcome == "fine"


def test_agreement_is_judged_by_its_floor() -> None:
    assert outcomes(assessed(arm(40, agreement=Graded(22, 40)), arm(760)))["agreement"] == "worse"
    assert outcomes(assessed(arm(40, agreement=Graded(36, 40)), arm(760)))["agreement"] == "fine"
    lower = Analysis(agreement={"floor": 0.5})
    assert assessed(arm(40, agreement=Graded(26, 40)), arm(760), settings=lower).outcome == "fine"


def test_agreement_is_compared_where_stable_is_asked_twice() -> None:
    found = assessed(arm(40, agreement=Graded(26, 40)), arm(760, agreement=Graded(70, 100)))
    assert outcomes(found)["agreement"] == "fine", "stable does not agree with itself more often"


def test_too_few_requests_are_not_enough() -> None:
    found = assessed(arm(10), arm(190))
    assert found.outcome == "not_enough"
    assert found.reasons == ("errors: 100 of the 200 requests of the canary that are needed",)


def test_a_step_is_not_passed_while_a_large_difference_is_not_ruled_out() -> None:
    found = assessed(arm(40, judge=Graded(3, 4)), arm(760, judge=Graded(60, 76)), looks=15)
    assert outcomes(found)["judge"] == "not_enough"
    assert "judge (bad ones): 15 of 60" in found.reasons[0]
    watch = watched([Observation(arm(40, judge=Graded(3, 4)), arm(760, judge=Graded(60, 76)))] * 15)
    assert assess(SETTINGS, watch, min_requests=200, passing=False).outcome == "fine", (
        "only asked when it could be passed"
    )


def test_signals_that_nobody_sends_are_not_waited_for() -> None:
    assert "thumbs" not in outcomes(assessed(arm(40), arm(760)))
    required = Analysis(thumbs={"required": True, "min_samples": 10})
    found = assessed(arm(40), arm(760), settings=required)
    assert found.reasons == ("thumbs: 0 of the 10 requests of the canary that are needed",)


def test_rare_signals_wait_until_both_sides_have_some() -> None:
    lonely = watched([Observation(arm(40, thumbs=Graded(0, 1)), arm(40))] * 4)
    track = lonely.tracks["thumbs"]
    assert (track.canary.total, track.evidence.canary_total) == (4, 0)
    both = look(SETTINGS, lonely, Observation(arm(40, thumbs=Graded(0, 1)), arm(40, thumbs=Graded(6, 6))))
    assert both.tracks["thumbs"].evidence.canary_total == 5
    assert both.tracks["thumbs"].canary.total == 0
    assert next_step(lonely).tracks["thumbs"].canary.total == 0, "another share of traffic is another comparison"


def test_requests_that_wait_by_an_edge_that_is_gone_are_left_out() -> None:
    few = Observation(arm(2, duration=times(2, 0)), arm(2, duration=times(2, 0)))
    watch = watched([few])
    assert watch.tracks["latency_p95"].canary.total == 2
    other = Histogram((0.2, 0.9, 7.0), (0, 3, 1, 0))
    changed = look(SETTINGS, watch, Observation(Arm(4, 0, other), Arm(4, 0, other)))
    assert changed.tracks["latency"].edge_s == 0.9
    assert (changed.tracks["latency"].canary.bad, changed.tracks["latency"].canary.total) == (1, 4)


def test_several_metrics_that_are_each_a_little_worse_are_worse_together() -> None:
    found = None
    for looks in range(1, 60):
        found = assessed(
            arm(40, errors=1, judge=Graded(7, 10)), arm(760, errors=6, judge=Graded(170, 190)), looks=looks
        )
        if found.outcome == "worse":
            break
    assert found is not None and found.outcome == "worse"
    log_parts = [verdict.e_value for verdict in found.verdicts]
    assert found.e_value >= 100 and max(log_parts) >= found.e_value, "the mean of e-values is below the largest"


def test_weights_divide_alpha_and_a_metric_without_weight_is_left_out() -> None:
    tests = all_tests(SETTINGS)
    assert math.isclose(sum(test.weight for test in tests), 1.0)
    assert {test.name for test in tests} == {
        "errors", "latency_p95", "latency_p99", "latency", "ttft_p95", "schema_valid", "agreement", "judge", "thumbs",
    }  # fmt: skip
    assert "thumbs" not in {test.name for test in all_tests(Analysis(thumbs={"weight": 0}))}
    assert "latency" not in {test.name for test in all_tests(Analysis(triggers={"latency_ms": 0}))}


def test_the_limit_of_errors_is_a_test_of_its_own_only_where_more_is_tolerated_beside_stable() -> None:
    loose = Analysis(errors={"tolerance": 0.2})
    assert "error_share" in {test.name for test in all_tests(loose)}
    assert outcomes(assessed(arm(40, errors=4), arm(760), settings=loose))["error_share"] == "worse"
    shared = assessed(arm(40, errors=4), arm(760, errors=76), settings=loose)
    assert shared.outcome != "worse", "beyond the limit, but no more than stable"


def test_alone_it_is_held_against_limits_and_against_stable_before() -> None:
    bad = assessed(arm(400, errors=20), Arm(), alone=True)
    assert outcomes(bad)["errors"] == "worse"
    assert "worse than its limit and than stable was before" in bad.reasons[0]
    assert assessed(arm(400, errors=3), Arm(), alone=True).outcome == "fine"
    slow = assessed(arm(400, duration=times(100, 300)), Arm(), alone=True)
    assert outcomes(slow)["latency"] == "worse"
    assert "latency_p95" not in outcomes(slow), "no percentile of stable to compare with at the same time"


def test_alone_quality_is_held_against_stable_before() -> None:
    watch = Watch(before=replace(BEFORE, judge=Graded(900, 1000)))
    for _ in range(10):
        watch = look(SETTINGS, watch, Observation(arm(400, judge=Graded(28, 40))), alone=True)
    assert outcomes(assess(SETTINGS, watch, min_requests=200, alone=True))["judge"] == "worse"


def test_a_watch_goes_on_from_json_as_if_nothing_had_happened() -> None:
    period = Observation(arm(40, errors=1, thumbs=Graded(1, 2)), arm(760, errors=1))
    watch = watched([period] * 3)
    back = watches.from_json(json.loads(json.dumps(watches.as_json(watch))))
    assert back == watch
    assert look(SETTINGS, back, period) == look(SETTINGS, watch, period)


def test_a_partly_given_metric_keeps_its_own_defaults() -> None:
    settings = Analysis.model_validate({"errors": {"tolerance": 0.002}})
    assert (settings.errors.tolerance, settings.errors.required, settings.errors.weight) == (0.002, True, 0.5)


def test_settings_that_watch_nothing_are_refused() -> None:
    nothing = {name: {"weight": 0} for name in (*SIGNALS, "errors", "latency_p95", "latency_p99", "ttft_p95")}
    with pytest.raises(ValueError, match="at least one metric needs a weight"):
        Analysis.model_validate(nothing)
