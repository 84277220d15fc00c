"""When a server that fails is left alone, tried again, and how much may be tried again at all."""

from __future__ import annotations

import pytest

from largeforge.gateway.breaker import Breaker
from largeforge.gateway.budget import RESERVE, RetryBudget
from largeforge.recipe.sections.resilience import Breaker as Settings


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(Settings(failures=3, open_s=1, most_open_s=5), clock)


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.begin()
        breaker.failed()


def test_failures_in_a_row_open_it_and_a_success_between_does_not_count(breaker: Breaker) -> None:
    fail(breaker, 2)
    breaker.begin()
    breaker.succeeded()
    fail(breaker, 2)
    assert (breaker.state, breaker.lets_through) == ("closed", True)
    fail(breaker)
    assert (breaker.state, breaker.lets_through) == ("open", False)


def test_one_trial_at_a_time_closes_it_or_opens_it_for_longer(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    waits = []
    for _ in range(4):
        start = clock.now
        while not breaker.lets_through:
            clock.now += 0.5
        waits.append(clock.now - start)
        assert breaker.state == "half-open"
        breaker.begin()
        assert not breaker.lets_through, "one trial at a time"
        breaker.failed()
    assert waits == [1, 2, 4, 5]
    clock.now += 5
    breaker.begin()
    breaker.succeeded()
    assert (breaker.state, breaker.lets_through) == ("closed", True)
    fail(breaker, 3)
    clock.now += 1
    assert breaker.lets_through, "it begins with the short time again"


def test_a_trial_whose_client_left_says_nothing(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 1
    breaker.begin()
    breaker.dropped()
    assert (breaker.state, breaker.lets_through) == ("half-open", True)


def test_retries_are_a_share_of_requests_beside_a_reserve() -> None:
    budget = RetryBudget(0.2)
    assert sum(budget.take() for _ in range(100)) == RESERVE
    for _ in range(1000):
        budget.request()
    assert 90 <= sum(budget.take() for _ in range(1000)) <= 100, "what is saved up has an end"
    taken = 0
    for _ in range(1000):
        budget.request()
        taken += budget.take()
    assert taken == pytest.approx(200, abs=2)
    assert not RetryBudget(0).take()


def test_requests_under_way_when_it_opens_do_not_lengthen_its_time(breaker: Breaker, clock: Clock) -> None:
    for _ in range(50):
        breaker.begin()
    for _ in range(50):
        breaker.failed()
    clock.now += 1
    assert breaker.state == "half-open"


def test_streams_that_begin_and_break_off_open_it(breaker: Breaker, clock: Clock) -> None:
    for _ in range(3):
        assert breaker.lets_through
        breaker.begin()
        breaker.streams()
        breaker.failed()
    assert breaker.state == "open"
    clock.now += 1
    breaker.begin()
    breaker.streams()
    assert breaker.state == "closed", "others need not wait for the end of a stream"
    breaker.begin()
    breaker.failed()
    assert breaker.state == "open", "no stream has come to its end"


def test_what_a_dead_server_lost_moves_without_a_budget_unless_nothing_may_be_tried_again() -> None:
    budget = RetryBudget(0.2)
    assert all(budget.take(is_move=True) for _ in range(1000))
    assert budget.take()
    assert not RetryBudget(0).take(is_move=True)
