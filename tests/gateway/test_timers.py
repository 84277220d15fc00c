"""Timers of one length: each rings when its own time is over, unless it was cancelled."""

from __future__ import annotations

import heapq
from unittest.mock import Mock

import pytest

from largeforge.gateway.timers import Timers


class Loop:
    """An event loop whose time passes by itself."""

    def __init__(self):
        self.now = 0.0
        self.num_set = 0
        self._timers = []

    def time(self):
        return self.now

    def call_later(self, delay_s, call):
        self.num_set += 1
        handle = Mock(is_cancelled=False)
        handle.cancel = lambda: setattr(handle, "is_cancelled", True)
        heapq.heappush(self._timers, (self.now + delay_s, self.num_set, call, handle))
        return handle

    def pass_until(self, now):
        while self._timers and self._timers[0][0] <= now:
            self.now, _, call, handle = heapq.heappop(self._timers)
            if not handle.is_cancelled:
                call()
        self.now = now


@pytest.fixture
def loop():
    return Loop()


@pytest.fixture
def rung(loop):
    return []


def start(timers, loop, rung, name):
    def ring(argument):
        rung.append((round(loop.now, 6), name, argument))

    timers.start(ring, "over")
    return ring


def test_each_rings_at_its_own_time(loop, rung):
    timers = Timers(loop, 10.0)
    for at in (0.0, 1.0, 2.5):
        loop.pass_until(at)
        start(timers, loop, rung, f"begun at {at}")
    loop.pass_until(60.0)
    assert rung == [(10.0, "begun at 0.0", "over"), (11.0, "begun at 1.0", "over"), (12.5, "begun at 2.5", "over")]


def test_a_cancelled_one_never_rings_and_the_others_are_not_late(loop, rung):
    timers = Timers(loop, 10.0)
    first = start(timers, loop, rung, "first")
    loop.pass_until(3.0)
    start(timers, loop, rung, "second")
    timers.cancel(first)
    timers.cancel(first)
    loop.pass_until(60.0)
    assert rung == [(13.0, "second", "over")]


def test_many_that_are_cancelled_take_few_timers_of_the_loop(loop, rung):
    timers = Timers(loop, 10.0)
    kept = start(timers, loop, rung, "kept")
    for number in range(1000):
        loop.pass_until(number / 1000)
        timers.cancel(start(timers, loop, rung, f"{number}"))
    assert loop.num_set == 1
    timers.cancel(kept)
    loop.pass_until(60.0)
    assert rung == []
