"""Replicas that take time to start and slow down as they fill, before a queue: for `scripts/bench autoscale`.

A fluid: how many requests are in flight and waiting, not each of them. An answer takes `alone_s` on an empty replica
and longer by `1 / knee` for each other request in flight, which is how continuous batching behaves until the limit of
sequences; single times are log-normal around that. What waits longer than the gateway lets it, or finds the queue
full, is refused, and counts as over the SLO.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from largeforge.autoscale import Observation

if TYPE_CHECKING:
    from scripts.benchmarks._autoscale_traces import Trace

SIGMA = 0.5
"""Of the logarithm of single times."""
P95 = math.exp(1.645 * SIGMA - SIGMA**2 / 2)
"""p95 of single times, as a multiple of their mean."""


@dataclass(frozen=True)
class Machine:
    """What one replica is like, and what is promised of it."""

    alone_s: float = 4.0
    knee: float = 64.0
    max_num_seqs: int = 64
    start_s: float = 90.0
    most: int = 8
    slo_s: float = 16.0
    """95 % of the answers are to take no longer."""
    queue: int = 256
    wait_s: float = 30.0

    def takes(self, in_flight: float) -> float:
        """Return the mean time of an answer when so many are in flight at its replica."""
        return self.alone_s * (1 + in_flight / self.knee)

    def rate(self, in_flight: float) -> float:
        """Return the requests a second that a replica answers with so many in flight."""
        return in_flight / self.takes(in_flight)


@dataclass
class Figures:
    """What became of a trace."""

    requests: int = 0
    over_slo: float = 0.0
    refused: float = 0.0
    gpu_s: float = 0.0
    starts: int = 0
    highest: int = 0

    def __add__(self, other: Figures) -> Figures:
        return Figures(
            self.requests + other.requests, self.over_slo + other.over_slo, self.refused + other.refused,
            self.gpu_s + other.gpu_s, self.starts + other.starts, max(self.highest, other.highest),
        )  # fmt: skip


Policy = Callable[[Observation, float], int]
"""How many replicas are wanted at a time."""


@dataclass
class _Fleet:
    machine: Machine
    ready: int
    starting: deque[float] = field(default_factory=deque)
    """When each will be ready."""
    in_flight: float = 0.0
    waiting: deque[list[float]] = field(default_factory=deque)
    """When they came, and how many are left of those."""
    num_waiting: float = 0.0
    mean_wait_s: float = 0.0
    ended: float = 0.0
    """Requests that were answered or refused since the last look."""

    def step(self, now: float, step_s: float, arrived: int, told: Figures) -> None:
        machine = self.machine
        while self.starting and self.starting[0] <= now:
            self.starting.popleft()
            self.ready += 1
        each = self.in_flight / self.ready if self.ready else 0.0
        time_s = machine.takes(each)
        ended = min(self.in_flight, self.in_flight * step_s / time_s) if self.ready else 0.0
        self.in_flight -= ended
        self.ended += ended
        let_in = min(arrived, max(0.0, machine.queue - self.num_waiting))
        let_in = max(let_in, min(arrived, self.ready * machine.max_num_seqs - self.in_flight))
        self._refuse(arrived - let_in, told)
        if let_in:
            self.waiting.append([now, let_in])
            self.num_waiting += let_in
        self._admit(now, time_s, step_s, told)
        while self.waiting and now - self.waiting[0][0] > machine.wait_s:
            self._refuse(self.waiting[0][1], told)
            self.num_waiting -= self.waiting.popleft()[1]
        told.requests += arrived
        told.gpu_s += step_s * (self.ready + len(self.starting))

    def _admit(self, now: float, time_s: float, step_s: float, told: Figures) -> None:
        room, waited, admitted = self.ready * self.machine.max_num_seqs - self.in_flight, 0.0, 0.0
        while self.waiting and room > 1e-9:
            came, count = self.waiting[0]
            part = min(count, room)
            told.over_slo += part * _above(self.machine.slo_s - (now - came), time_s)
            waited, admitted = waited + part * (now - came), admitted + part
            room -= part
            if part == count:
                self.waiting.popleft()
            else:
                self.waiting[0][1] -= part
        self.in_flight += admitted
        self.num_waiting = max(0.0, self.num_waiting - admitted) if self.waiting else 0.0
        weight = min(1.0, step_s / 120.0)
        self.mean_wait_s += weight * ((waited / admitted if admitted else 0.0) - self.mean_wait_s)

    def _refuse(self, count: float, told: Figures) -> None:
        self.ended += count
        told.refused += count
        told.over_slo += count

    def seen(self) -> Observation:
        machine = self.machine
        each = self.in_flight / self.ready if self.ready else 0.0
        late = {"slo-answer": 1000 * (machine.takes(each) * P95 + self.mean_wait_s)} if self.in_flight > 0.5 else {}
        ended, self.ended = self.ended, 0.0
        in_flight, waiting = (value if value > 0.05 else 0.0 for value in (self.in_flight, self.num_waiting))
        return Observation(
            ready=self.ready, most=machine.most, starting=len(self.starting), in_flight=in_flight, waiting=waiting,
            requests=ended if ended > 0.05 else 0.0, latencies_ms=late, start_s=machine.start_s,
        )  # fmt: skip

    def scale(self, wanted: int, now: float, told: Figures) -> None:
        while self.ready + len(self.starting) < wanted:
            self.starting.append(now + self.machine.start_s)
            told.starts += 1
        while self.ready + len(self.starting) > wanted:
            if self.starting:
                self.starting.pop()
            else:
                self.ready -= 1  # what it answers goes on at the others: gateways drain first


def replay(
    trace: Trace, policy: Policy, machine: Machine, *, seed: int, running: int, learns: bool = False,
    interval_s: float = 5.0,
) -> Figures:  # fmt: skip
    """Return what becomes of a trace under a policy; what is before it is lived through, and not counted."""
    arrivals: Sequence[int] = trace.arrivals(seed, learns=learns)
    fleet, told = _Fleet(machine, running), Figures()
    skipped = len(arrivals) - int(trace.seconds / trace.step_s)
    every = max(1, round(interval_s / trace.step_s))
    for step, arrived in enumerate(arrivals):
        if step == skipped:
            told = Figures()
        now = step * trace.step_s
        fleet.step(now, trace.step_s, arrived, told)
        if step % every == 0:
            wanted = policy(fleet.seen(), now)
            fleet.scale(min(machine.most, wanted), now, told)
            told.highest = max(told.highest, wanted)
    return told


def _above(left_s: float, mean_s: float) -> float:
    """Return the share of answers that take longer than is left."""
    if left_s <= 0:
        return 1.0
    z = (math.log(left_s / mean_s) + SIGMA**2 / 2) / SIGMA
    return 0.5 * math.erfc(z / math.sqrt(2))
