"""Look, decide, and bring about that as many replicas run as are wanted; again and again, until it is stopped.

Each look starts from what hosts and gateways say now, so that nothing depends on what this process remembers: it may
end at any time, and another goes on. What windows and forecasts need is kept on the hosts, before a decision is acted
on. Deployments and rollouts come first: while one is under way nothing is started or stopped.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from largeforge.autoscale import Observation, State, Target, decide, start, targets
from largeforge.deploy import desired, shell
from largeforge.deploy.connection import reaches
from largeforge.deploy.fleet import Fleet
from largeforge.deploy.hands import MOST_AT_ONCE
from largeforge.deploy.operate import find, host_names
from largeforge.deploy.scaling import kept
from largeforge.deploy.scaling import seats as seating
from largeforge.deploy.scaling.hands import Changed, ScalingHands, listed_everywhere
from largeforge.deploy.scaling.readings import Reading, reading, within
from largeforge.deploy.scaling.runs import Runs
from largeforge.deploy.shell import LockHeld, Locks
from largeforge.errors import DeployError
from largeforge.recipe.schema import Autoscaling, Slo

if TYPE_CHECKING:
    from largeforge.deploy.operate import Deployed
    from largeforge.deploy.scaling.seats import Order, Seat
    from largeforge.recipe.sections.autoscaling import Scaling
    from largeforge.recipe.sections.hosts import Hosts

KEEP_S = 60.0
"""Time after which what was seen is written down even where nothing is decided."""
AGAIN_S = 600.0
"""Time after which a replica that failed to start may be tried again."""
WRONG_ANSWERS = 3
"""Attempts to warm up a replica before it is given up for a while."""

Report = Callable[[str], None]


class Hands(Protocol):
    """What the autoscaler does on hosts; see `hands.ScalingHands`."""

    def look(self) -> tuple[dict[str, dict[str, Any]], dict[str, str]]: ...
    def warm(self, seat: Seat, questions: Sequence[Mapping[str, Any]]) -> str: ...
    def carry_out(
        self, orders: Sequence[Order], *, unlisted: bool, gone: Collection[str] = (),
        behind: Mapping[str, Collection[Seat]] = ...,
    ) -> list[Order]: ...  # fmt: skip
    def keep(self, state: Mapping[str, Any]) -> None: ...
    def kept(self) -> dict[str, str]: ...


@dataclass
class Expert:
    """An expert with servers of its own, and how it is scaled."""

    name: str
    scaling: Scaling
    aims: list[Target]
    tasks: Mapping[str, str]
    """By expert that its servers answer for, what it does."""
    state: State | None = None
    looked: Reading | None = None


@dataclass
class Autoscaler:
    """Scales one deployment, as long as it stays as it is."""

    record: str
    """The deployment that this is for."""
    experts: dict[str, Expert]
    carried: Mapping[str, str]
    """By adapter, the expert that carries it."""
    hands: Hands
    report: Report
    drain_timeout_s: float = 60.0
    acts: bool = True
    clock: Callable[[], float] = time.time
    _readings: deque[Reading] = field(default_factory=deque)
    _draining: dict[str, float] = field(default_factory=dict)
    """Since when units that are drained are seen with requests that they have not finished."""
    _runs: Runs = field(default_factory=Runs)
    _given_up: dict[str, float] = field(default_factory=dict)
    _wrong: Counter[str] = field(default_factory=Counter)
    _kept: float = 0.0
    _said: set[str] = field(default_factory=set)
    _before: set[str] = field(default_factory=set)
    """What is in the way at this look, and at the one before."""

    def go_on(self) -> None:
        """Go on from what was written down, if anything was."""
        states, damaged = kept.read(self.hands.kept())
        for text in damaged:
            self.report(text)
        for name, expert in self.experts.items():
            expert.state = states.get(name)

    def look(self) -> None:
        """Look once, decide, and do what follows.

        Raises Changed when the deployment is another one by now.
        """
        self._before, self._said = self._said, set()
        now = self.clock()
        looks, failed = self.hands.look()
        for host, error in failed.items():
            self._tell_once(f"{host} cannot be looked at: {error}")
        for host, look in looks.items():
            if look.get("gateway") and "error" in look["gateway"]:
                self._tell_once(f"the gateway on {host} says nothing: {look['gateway']['error']}")
        pages = {host: look["gateway"]["metrics"] for host, look in looks.items() if _answers(look)}
        if not pages:
            return
        if max(look["record"] for host, look in looks.items() if host in pages) != self.record:
            raise Changed
        self._readings = deque(within([*self._readings, reading(now, pages)], now))
        self._runs.observe(looks, now)
        found = seating.seats(looks, steady=self._runs.steady)
        self._draining = {
            seat.unit: self._draining.get(seat.unit, now)
            for seat in found if seat.status == "warm" and seat.outstanding
        }  # fmt: skip
        self._give_up(found, now)
        uses = {host: look["gpu_use"] for host, look in looks.items()}
        wanted = self._decide(seating.groups(found, self.carried), uses, now)
        if any(look["canaries"] for look in looks.values()):
            self._tell_once("a rollout is under way: nothing is started or stopped until it has ended")
        elif self.acts:
            unlisted, gone = not listed_everywhere(looks.values(), found), () if failed else seating.gone(looks)
            self._act(found, wanted, unlisted=unlisted, gone=gone, behind=seating.behind(looks, found), now=now)

    def _decide(
        self, by_expert: Mapping[str, Sequence[Seat]], uses: Mapping[str, Mapping[str, float]], now: float
    ) -> dict[str, int]:
        """Return how many replicas of each expert are wanted, after that was written down."""
        wanted, changed = {}, False
        for name, expert in self.experts.items():
            seen = self._observed(expert, by_expert.get(name, ()), uses)
            before = expert.state or start(now, running=seen.ready + seen.starting)
            expert.state, decision = decide(expert.scaling, expert.aims, before, seen, now)
            wanted[name] = decision.wanted
            if decision.wanted != before.wanted or expert.looked is None:
                changed = True
                what = (
                    f"{before.wanted} → {decision.wanted}" if decision.wanted != before.wanted else f"{before.wanted}"
                )
                self.report(f"{name}: {what} replicas{_because(decision.reasons)}")
            expert.looked = self._readings[-1]
        if self.acts and (changed or now - self._kept >= KEEP_S):
            self._kept = now
            states = {name: one.state for name, one in self.experts.items() if one.state}
            self.hands.keep(kept.as_json(states, now))
        return wanted

    def _observed(self, expert: Expert, found: Sequence[Seat], uses: Mapping[str, Mapping[str, float]]) -> Observation:
        newest, oldest = self._readings[-1], self._readings[0]
        names = {name for seat in found for name in seat.experts} | {expert.name}
        usable = seating.usable(found, given_up=self._given_up)
        serving = [seat for seat in usable if seat.status == "serving"]
        on_the_way = [seat for seat in usable if seat.status in ("starting", "warm", "failing")]
        times = {
            aim.name: newest.quantile_ms(aim.indicator, aim.percentile, names, oldest)
            for aim in expert.aims
            if aim.indicator is not None
        }
        gpus = [uses[seat.host][str(gpu)] for seat in serving for gpu in seat.gpus if str(gpu) in uses[seat.host]]
        return Observation(
            ready=len(serving), starting=len(on_the_way), most=_most(expert.scaling, usable),
            in_flight=sum(seat.outstanding for seat in found), waiting=newest.waiting(names),
            requests=newest.ended(names, expert.looked) if expert.looked else 0.0,
            latencies_ms={name: value for name, value in times.items() if value is not None},
            cache_use=_mean([seat.cache_use for seat in serving if seat.cache_use is not None]), gpu_use=_mean(gpus),
            start_s=max((seat.started_s for seat in found if seat.started_s), default=None),
        )  # fmt: skip

    def _act(
        self, found: Sequence[Seat], wanted: Mapping[str, int], *, unlisted: bool, gone: Collection[str],
        behind: Mapping[str, Collection[Seat]], now: float,
    ) -> None:  # fmt: skip
        """Do what follows; replicas are asked real prompts before anything is locked, as that takes a while."""
        overdue = {unit for unit, since in self._draining.items() if now - since >= self.drain_timeout_s}
        listed = [
            order
            for name, seats in seating.groups(found, self.carried).items()
            if name in wanted
            for order in seating.orders(seats, wanted[name], given_up=self._given_up, overdue=overdue)
        ]
        warm = [order.seat for order in listed if order.action == "warm"]
        wrong = dict(zip(warm, shell.side_by_side(self._warm, warm, at_once=MOST_AT_ONCE), strict=True))
        listed = [order for order in listed if order.action != "warm" or self._is_warm(order.seat, wrong, now)]
        if not listed and not behind:
            return
        try:
            done = self.hands.carry_out(listed, unlisted=unlisted, gone=gone, behind=behind)
        except DeployError as error:
            self._tell_once(f"nothing is started or stopped now: {error}")
            return
        for order in done:
            self.report(f"{order.seat.place}: {_IN_WORDS[order.action]}")

    def _warm(self, seat: Seat) -> str:
        """Return what is wrong with a replica's answers, empty where nothing is."""
        expert = next(one for one in self.experts.values() if one.name in seat.experts)
        if not expert.scaling.prewarm:
            return ""
        return self.hands.warm(seat, [desired.question(name, expert.tasks[name]) for name in seat.experts])

    def _is_warm(self, seat: Seat, said: Mapping[Seat, str], now: float) -> bool:
        if not (wrong := said[seat]):
            self._wrong.pop(seat.unit, None)
            return True
        self._wrong[seat.unit] += 1
        self.report(f"{seat.place}: {wrong}")
        if self._wrong[seat.unit] >= WRONG_ANSWERS:
            self._wrong.pop(seat.unit)
            self._given_up[seat.unit] = now
        return False

    def _give_up(self, found: Sequence[Seat], now: float) -> None:
        """Leave replicas alone that fail to start, for a while."""
        self._given_up = {unit: since for unit, since in self._given_up.items() if now - since < AGAIN_S}
        for seats in seating.groups(found, self.carried).values():
            for seat in seating.hopeless(seats, given_up=self._given_up):
                self._given_up[seat.unit] = now
                self.report(f"{seat.place}: it does not start; it is tried again after {AGAIN_S / 60:.0f} minutes")
        for seat in found:
            if seat.status == "failing" and seat.unit not in self._given_up:
                self._tell_once(f"{seat.place}: it does not start, and there is no other to take its place")

    def _tell_once(self, text: str) -> None:
        """Report what is in the way, once as long as it lasts."""
        self._said.add(text)
        if text not in self._before:
            self.report(text)


_IN_WORDS = {
    "start": "started", "warm": "answers, and gets requests", "drain": "gets no more requests", "stop": "stopped"
}  # fmt: skip


def run(
    inventory: Hosts, wanted: str, *, report: Report, acts: bool = True, looks: int | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:  # fmt: skip
    """Scale a deployment until somebody stops it, or for so many looks.

    Raises DeployError when it is deployed without autoscaling, or somebody else scales it, already or by now.
    """
    with reaches(inventory, host_names(inventory, ())) as reached:
        name = wanted
        while looks is None or looks > 0:
            deployed = _found(inventory, reached, name)
            there = {host: reached[host] for host in deployed.states}
            scaler, every_s = of(deployed, there, report=report, acts=acts)
            gateways = {host: there[host] for host in deployed.last.gateways if host in there}
            with Locks(gateways if acts else {}, f"{deployed.name}.autoscaler") as locks:
                report(f"{deployed.name}: {'scales' if acts else 'would scale'} {', '.join(sorted(scaler.experts))}")
                if missing := sorted(set(reached) - set(there)):
                    report(f"{', '.join(missing)}: cannot be reached, or without {deployed.name}; not scaled")
                looks = _repeat(scaler, locks, looks, every_s=every_s, sleep=sleep)
            if looks != 0:
                sleep(every_s)
            name = deployed.name


def _repeat(
    scaler: Autoscaler, locks: Locks, looks: int | None, *, every_s: float, sleep: Callable[[float], None]
) -> int | None:  # fmt: skip
    """Look until the deployment is another one; return how many looks are left."""
    while looks is None or looks > 0:
        began = time.monotonic()
        try:
            locks.check()
            scaler.look()
        except Changed:
            scaler.report("another deployment is in force; goes on with that")
            return None if looks is None else looks - 1
        except LockHeld:
            raise
        except DeployError as error:  # a host that is away; what can be done without it was
            scaler.report(f"nothing is decided now: {error}")
        looks = None if looks is None else looks - 1
        if looks != 0:
            sleep(max(0.0, every_s - (time.monotonic() - began)))
    return looks


def of(
    deployed: Deployed, reached: Mapping[str, Any], *, report: Report, acts: bool
) -> tuple[Autoscaler, float]:  # fmt: skip
    """Return what scales a deployment, going on from what it has written down, and seconds between looks.

    Raises DeployError when it is deployed without autoscaling.
    """
    last = deployed.last
    settings = Autoscaling.model_validate(last.autoscaling.get("settings", {}))
    if not settings.enabled:
        raise DeployError(
            f"{deployed.name} is deployed without autoscaling: deploy it with autoscaling=slo or another choice"
        )
    slo = Slo.model_validate(last.sections["gateway"].get("slo", {}))
    known = last.sections["topology"]["experts"]
    max_num_seqs = int(last.autoscaling["max_num_seqs"])
    experts = {
        name: Expert(
            name, settings.of(name), targets(settings.of(name), slo, max_num_seqs=max_num_seqs),
            {other: found["task"] for other, found in known.items() if name in (other, found["adapter_on"])},
        )
        for name, one in known.items()
        if not one["adapter_on"]
    }  # fmt: skip
    hands = ScalingHands(deployed, reached, gpus=any(one.scaling.gpu_use for one in experts.values()))
    scaler = Autoscaler(
        last.id, experts, {name: one["adapter_on"] for name, one in known.items()}, hands, report,
        drain_timeout_s=deployed.site.drain_timeout_s, acts=acts,
    )  # fmt: skip
    scaler.go_on()
    return scaler, settings.interval_s


def _found(inventory: Hosts, reached: Mapping[str, Any], wanted: str) -> Deployed:
    with Fleet(reached) as fleet:
        return find(inventory, fleet, wanted)


def _most(scaling: Scaling, usable: Sequence[Seat]) -> int:
    return min(len(usable), scaling.max_replicas or len(usable))


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _answers(look: Mapping[str, Any]) -> bool:
    return bool(look.get("gateway")) and "error" not in look["gateway"]


def _because(reasons: Sequence[str]) -> str:
    return f": {', '.join(reasons)}" if reasons else ""
