"""Evidence against a share: exact where it can be counted out, simulated where it cannot."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from largeforge.rollout.sequential import (
    LAMBDAS,
    Counts,
    Evidence,
    Tolerated,
    bounds,
    log_e_value,
    lower_bound,
    most_apart,
    nearest_tolerated,
    upper_bound,
)

shares = st.floats(0.001, 0.97)
tolerances = st.builds(
    Tolerated, st.sampled_from([0.0, 0.7, 1.0, 1.5]), st.sampled_from([0.0005, 0.01, 0.2]), st.sampled_from([0.0, 0.05])
)


def drawn(draw: random.Random, total: int, share: float) -> Counts:
    return Counts(sum(draw.random() < share for _ in range(total)), total)


def binomial(bad: int, total: int, share: float) -> float:
    return math.comb(total, bad) * share**bad * (1 - share) ** (total - bad)


def test_equal_shares_are_pooled_by_the_size_of_both_sides() -> None:
    canary, stable = nearest_tolerated(0.5, 0.25, 1, 3, 1.0, 0.0)
    assert (canary, stable) == pytest.approx((0.3125, 0.3125))
    # (0.5 / 0.375) for the bad one, (0.75 / 0.625) for the good one
    assert log_e_value(Counts(1, 1), Counts(0, 1), 0.5, 0.25, Tolerated()) == pytest.approx(math.log(1.6))


def test_a_fixed_limit_is_a_likelihood_ratio_against_it() -> None:
    found = log_e_value(Counts(2, 10), Counts(0, 90), 0.05, 0.001, Tolerated(0.0, 0.01))
    assert found == pytest.approx(2 * math.log(5) + 8 * math.log(0.95 / 0.99))


def test_a_limit_beside_the_comparison_takes_the_weaker_of_both() -> None:
    compared = log_e_value(Counts(2, 10), Counts(0, 90), 0.05, 0.001, Tolerated())
    fixed = log_e_value(Counts(2, 10), Counts(0, 90), 0.05, 0.001, Tolerated(0.0, 0.03))
    both = log_e_value(Counts(2, 10), Counts(0, 90), 0.05, 0.001, Tolerated(limit=0.03))
    assert both == pytest.approx(min(compared, fixed))


@given(shares, shares, st.integers(1, 60), st.integers(0, 500), st.sampled_from([0.5, 1.0, 1.5]), st.floats(0, 0.3))
def test_the_nearest_tolerated_shares_are_the_nearest(
    canary: float, stable: float, canaries: int, stables: int, ratio: float, margin: float
) -> None:
    own, other = nearest_tolerated(canary, stable, canaries, stables, ratio, margin)
    assert own <= ratio * other + margin + 1e-8 or (own, other) == (canary, stable)

    def far(point: float) -> float:
        limit = min(max(ratio * point + margin, 1e-9), 1 - 1e-9)
        return canaries * kl(canary, min(canary, limit)) + stables * kl(stable, point)

    tried = [far(0.0005 + 0.999 * step / 400) for step in range(401)]
    assert canaries * kl(canary, own) + stables * kl(stable, other) <= min(tried) + 1e-7


def kl(share: float, other: float) -> float:
    return share * math.log(share / other) + (1 - share) * math.log((1 - share) / (1 - other))


@settings(max_examples=300)
@given(shares, shares, shares, st.floats(0, 1), st.integers(1, 5), st.integers(0, 7), tolerances)
def test_the_mean_of_an_e_value_is_at_most_one_whatever_is_tolerated(
    guess: float, stable_guess: float, stable: float, part: float, canaries: int, stables: int, tolerated: Tolerated
) -> None:
    most = max(tolerated.limit, tolerated.ratio * stable + tolerated.margin)
    canary = min(1.0, most) * part
    boundary = tolerated.boundary(stable_guess)
    guess = boundary + (1 - boundary) * guess * 0.99
    mean = sum(
        binomial(bad, canaries, canary)
        * binomial(other, stables, stable)
        * math.exp(log_e_value(Counts(bad, canaries), Counts(other, stables), guess, stable_guess, tolerated))
        for bad in range(canaries + 1)
        for other in range(stables + 1)
    )
    assert mean <= 1 + 1e-6


@given(st.integers(1, 40), st.integers(1, 400), st.floats(0, 1), st.floats(0, 1), tolerances)
def test_more_bad_requests_of_the_canary_are_more_evidence_and_of_stable_less(
    canaries: int, stables: int, bad: float, other: float, tolerated: Tolerated
) -> None:
    begun = Evidence().after(Counts(1, 30), Counts(3, 300), tolerated)
    ours, theirs = Counts(int(bad * (canaries - 1)), canaries), Counts(int(other * (stables - 1)), stables)
    found = begun.after(ours, theirs, tolerated).logs
    worse = begun.after(Counts(ours.bad + 1, canaries), theirs, tolerated).logs
    assert all(more > less for more, less in zip(worse, found, strict=True))
    better = begun.after(ours, Counts(theirs.bad + 1, stables), tolerated).logs
    assert all(less <= more + 1e-9 for less, more in zip(better, found, strict=True))


def alarms(paths: int, looks: int, seed: int, share: float, tolerated: Tolerated, alpha: float, outages: float) -> int:
    """How many of so many rollouts of a canary that is as good as stable give an alarm at any look."""
    draw = random.Random(seed)
    count = 0
    for _ in range(paths):
        evidence = Evidence()
        for _ in range(looks):
            now = 0.4 if draw.random() < outages else share
            evidence = evidence.after(drawn(draw, 8, now), drawn(draw, 24, now), tolerated)
            if evidence.log_e >= -math.log(alpha):
                count += 1
                break
    return count


@pytest.mark.parametrize(
    ("share", "tolerated", "outages"),
    [
        (0.008, Tolerated(), 0.0),
        (0.2, Tolerated(), 0.0),
        (0.2, Tolerated(), 0.1),
        (0.2, Tolerated(0.0, 0.2), 0.0),
    ],
    ids=["rare", "often", "outages of both", "fixed limit"],
)
def test_looking_at_every_period_gives_no_more_false_alarms_than_alpha(
    share: float, tolerated: Tolerated, outages: float
) -> None:
    # at most 20 of 200 are expected at alpha = 0.1; 33 have a chance of 0.2 %
    assert alarms(200, 80, 3, share, tolerated, 0.1, outages) <= 33


def test_a_canary_within_its_tolerance_gives_no_alarm_however_long_it_is_watched() -> None:
    evidence = Evidence()
    for _ in range(500):
        evidence = evidence.after(Counts(3, 200), Counts(20, 2000), Tolerated(margin=0.01))
    assert evidence.log_e < 0


def test_five_percent_of_errors_are_found_within_200_requests() -> None:
    draw = random.Random(5)
    found = 0
    for _ in range(100):
        evidence = Evidence()
        for _ in range(20):
            evidence = evidence.after(drawn(draw, 10, 0.05), drawn(draw, 190, 0.001), Tolerated(margin=0.0005))
            if evidence.log_e >= math.log(200):
                found += 1
                break
    assert found >= 93


def test_what_goes_wrong_after_thousands_of_good_requests_is_found_too() -> None:
    evidence = Evidence()
    for _ in range(500):
        evidence = evidence.after(Counts(0, 10), Counts(0, 90), Tolerated(margin=0.0005))
    assert evidence.log_e < 0
    seen = 0
    while evidence.log_e < math.log(200):
        seen += 20
        evidence = evidence.after(Counts(1, 20), Counts(0, 180), Tolerated(margin=0.0005))
    assert seen <= 400


def test_requests_that_come_in_clusters_are_less_evidence() -> None:
    blocks = (Counts(4, 20), Counts(1, 180), Tolerated())
    assert 0 < Evidence().after(*blocks, clustering=3).log_e < Evidence().after(*blocks).log_e


def test_a_block_without_the_canary_only_teaches_what_stable_does() -> None:
    evidence = Evidence().after(Counts(), Counts(5, 100), Tolerated())
    assert (evidence.log_e, evidence.stable) == (pytest.approx(0.0), Counts(5, 100))


def test_the_canary_alone_says_nothing_beside_an_unknown_stable() -> None:
    assert Evidence().after(Counts(9, 10), Counts(), Tolerated()).log_e == pytest.approx(0.0, abs=1e-6)


def test_old_requests_of_stable_fade() -> None:
    evidence = Evidence(stable=Counts(0, 20_000)).after(Counts(), Counts(1000, 10_000), Tolerated())
    again = evidence.after(Counts(), Counts(1000, 10_000), Tolerated())
    assert evidence.stable == Counts(1000, 30_000)
    assert again.stable.share == pytest.approx((1000 * 2 / 3 + 1000) / 30_000)


def test_a_bound_is_where_the_mixture_reaches_one_over_alpha() -> None:
    counts, alpha = Counts(7, 300), 0.025
    share = upper_bound(counts, alpha)
    mixture = [math.exp(-x * 7 - 300 * math.log1p(share * math.expm1(-x))) for x in LAMBDAS]
    assert sum(mixture) / len(mixture) == pytest.approx(1 / alpha, rel=1e-4)
    assert share > 7 / 300


def test_bounds_hold_the_mean_of_changing_shares_at_all_looks() -> None:
    draw, missed = random.Random(8), 0
    for _ in range(100):
        counts, mean = Counts(), 0.0
        outside = False
        for period in range(30):
            share = 0.02 if period < 10 else 0.15
            counts, mean = counts + drawn(draw, 20, share), mean + share / 30
            low, high = bounds(counts, 0.2)
            outside |= not low <= (mean * 30) / (period + 1) <= high
        missed += outside
    assert missed <= 20


def test_more_requests_narrow_the_bounds() -> None:
    wide, narrow = bounds(Counts(2, 100), 0.05), bounds(Counts(200, 10_000), 0.05)
    assert wide[0] < narrow[0] < 0.02 < narrow[1] < wide[1]
    assert bounds(Counts(), 0.05) == (0.0, 1.0)


def test_the_difference_is_between_the_bounds_of_both() -> None:
    canary, stable = Counts(3, 500), Counts(10, 5000)
    assert most_apart(canary, stable, 0.05) == upper_bound(canary, 0.025) - lower_bound(stable, 0.025)
    assert 0.004 < most_apart(canary, stable, 0.05) < 0.03


@pytest.mark.parametrize(("bad", "total"), [(-1, 5), (6, 5), (1, 0)])
def test_counts_that_cannot_be_are_refused(bad: int, total: int) -> None:
    with pytest.raises(ValueError, match="must be between none and all"):
        Counts(bad, total)
