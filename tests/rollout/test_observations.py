"""What was observed: sums, differences of counters, percentiles of histograms, JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from largeforge.gateway.metrics import DURATION_BUCKETS
from largeforge.rollout import Arm, Graded, Histogram, Observation
from largeforge.rollout.observations import period
from largeforge.rollout.sequential import Counts

EDGES = (0.1, 0.5, 1.0, 5.0)
counts = st.integers(0, 10**9)
histograms = st.builds(lambda found: Histogram(EDGES, tuple(found)), st.lists(counts, min_size=5, max_size=5))
graded = st.builds(lambda good, bad: Graded(good, good + bad), counts, counts)
arms = st.builds(
    lambda good, bad, *others: Arm(good + bad, bad, *others),
    counts, counts, st.none() | histograms, st.none() | histograms, graded, graded, graded, graded,
)  # fmt: skip


@given(arms, arms)
def test_json_gives_back_what_it_was_made_of(canary: Arm, stable: Arm) -> None:
    observed = Observation(canary, stable)
    assert Observation.from_json(json.loads(json.dumps(observed.as_json()))) == observed


@given(arms, arms)
def test_counters_that_rise_give_what_was_new(before: Arm, new: Arm) -> None:
    found = (before + new).since(before)
    assert (found.requests, found.errors, found.judge) == (new.requests, new.errors, new.judge)
    if before.duration and new.duration:
        assert found.duration == new.duration


def test_a_counter_that_fell_began_anew() -> None:
    now = Arm(5, 1, Histogram(EDGES, (5, 0, 0, 0, 0)))
    assert now.since(Arm(100, 2, Histogram(EDGES, (90, 10, 0, 0, 0)))) == now
    assert now.since(Arm(4, 1, Histogram(EDGES, (6, 0, 0, 0, 0)))) == now


def test_buckets_of_prometheus_and_times_are_the_same_histogram() -> None:
    times = [0.05, 0.1, 0.3, 0.7, 0.9, 12.0]
    cumulative = [2, 3, 5, 5, 6]
    assert Histogram.of_cumulative(EDGES, cumulative) == Histogram.of_times(EDGES, times)
    assert Histogram.of_times(EDGES, times).counts == (2, 1, 2, 0, 1)


def test_slower_than_an_edge_are_those_beyond_it() -> None:
    histogram = Histogram(EDGES, (90, 5, 3, 1, 1))
    assert [histogram.slower(edge) for edge in range(4)] == [Counts(bad, 100) for bad in (10, 5, 2, 1)]


def test_the_edge_of_a_percentile_is_the_nearest_there_is() -> None:
    histogram = Histogram(EDGES, (900, 60, 30, 8, 2))
    assert [histogram.edge_near(share) for share in (0.05, 0.01, 0.002)] == [1, 2, 3]
    assert Histogram(EDGES, (1000, 0, 0, 0, 0)).edge_near(0.05) is None, "all are below the first edge"
    assert Histogram(EDGES, (0, 0, 0, 0, 9)).edge_near(0.05) is None, "all are beyond the last"
    assert Histogram(EDGES, (0, 0, 0, 0, 0)).edge_near(0.05) is None


def test_a_limit_between_edges_is_the_edge_above_which_errs_for_the_canary() -> None:
    histogram = Histogram(DURATION_BUCKETS, (0,) * (len(DURATION_BUCKETS) + 1))
    assert DURATION_BUCKETS[histogram.edge_from(0.5) or 0] == 0.5
    assert DURATION_BUCKETS[histogram.edge_from(0.6) or 0] == 1.0
    assert histogram.edge_from(301) is None


def test_buckets_that_changed_begin_anew() -> None:
    old, new = Histogram((1.0,), (5, 5)), Histogram((2.0,), (1, 0))
    assert (Arm(10, 0, old) + Arm(1, 0, new)).duration == new
    assert Arm(11, 0, new).since(Arm(10, 0, old)).duration == new


@pytest.mark.parametrize(
    ("edges", "found", "error"),
    [
        ((1.0,), (1,), "one count more"),
        ((2.0, 1.0), (1, 1, 1), "rising"),
        ((), (1,), "rising"),
        ((1.0,), (1, -1), "not negative"),
    ],
)
def test_histograms_that_cannot_be_are_refused(
    edges: tuple[float, ...], found: tuple[int, ...], error: str
) -> None:  # fmt: skip
    with pytest.raises(ValueError, match=error):
        Histogram(edges, found)


def test_arms_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="6 bad requests of 5"):
        Arm(5, 6)
    with pytest.raises(ValueError, match="3 good answers of 2"):
        Graded(3, 2)


def test_what_is_new_of_several_processes_is_known_although_one_begins_anew() -> None:
    def counted(canary: int, stable: int) -> Observation:
        return Observation(Arm(canary, canary // 10), Arm(stable))

    before = {"a": counted(100, 900), "b": counted(200, 1800)}
    now = {"a": counted(130, 950), "b": counted(20, 30), "c": counted(500, 500)}
    assert period(before, now) == counted(30, 50) + counted(20, 30), "b began anew, c was not known"
    assert period(now, {"a": counted(140, 950)}) == counted(10, 0), "b and c do not answer"
    assert period({}, now) == Observation()
