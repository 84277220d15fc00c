"""Hosts with the replicas that are on them so far: put one on, take it off, find the best place for the next."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from largeforge.placing.model import Demand, HostCapacity
    from largeforge.placing.states import Need, State, States


class Place(NamedTuple):
    """GPUs of a host, both counted in the order of the board."""

    host: int
    positions: tuple[int, ...]


@dataclass(eq=False)
class Item:
    """One replica that wants a place."""

    demand: Demand
    replica: int
    need: Need
    server: int
    number: int
    kept: Place | None = None
    """Where it is now, if it could stay there were it alone."""

    @property
    def is_apart(self) -> bool:
        """Whether it must not share a host with a replica of its server."""
        return self.demand.spread == "hosts!"

    @property
    def weight(self) -> tuple[int, int, int]:
        """How hard it is to place."""
        return (self.need.size, int(self.need.is_exclusive), self.need.cost)


class Board:
    """Which replica is where; hosts are in the order of their names."""

    def __init__(self, hosts: Sequence[HostCapacity], states: States, num_servers: int):
        self.space = states
        self.hosts = hosts
        self.idle = [states.idle(host) for host in hosts]
        self.states = list(self.idle)
        self.places: dict[int, Place] = {}
        self.on_host: list[dict[int, Item]] = [{} for _ in hosts]
        self.counts: list[dict[int, int]] = [{} for _ in range(num_servers)]
        self.alike: dict[State, list[int]] = {}
        """State to the hosts that are in it."""
        for host, state in enumerate(self.states):
            self.alike.setdefault(state, []).append(host)

    def emptied(self) -> Board:
        """Return a new board with the same hosts and nothing on them."""
        return Board(self.hosts, self.space, len(self.counts))

    def put(self, item: Item, place: Place) -> None:
        """Put a replica on a place where it fits."""
        self._change(item, place, 1)
        self.places[item.number] = place
        self.on_host[place.host][item.number] = item
        counts = self.counts[item.server]
        counts[place.host] = counts.get(place.host, 0) + 1

    def take(self, item: Item) -> Place:
        """Take a replica off and return where it was."""
        place = self.places.pop(item.number)
        self._change(item, place, -1)
        del self.on_host[place.host][item.number]
        counts = self.counts[item.server]
        counts[place.host] -= 1
        if not counts[place.host]:
            del counts[place.host]
        return place

    def fits(self, item: Item, place: Place) -> bool:
        """Return whether a replica may be put on a place now."""
        if item.is_apart and place.host in self.counts[item.server]:
            return False
        return self.states[place.host].fits(item.need, place.positions)

    def best(self, item: Item, *, tight: bool) -> Place | None:
        """Return the best place for a replica: few of its server on the host, the best way, the first host."""
        counts = self.counts[item.server] if item.demand.spread != "none" else {}
        found = None
        for state, members in self.alike.items():
            way = state.best(item.need, tight=tight)
            if not way:
                continue
            host = next((host for host in members if host not in counts), None)
            if host is not None and (found is None or (0, way.score, host) < found[:3]):
                found = (0, way.score, host, way.positions)
        if found is None and not item.is_apart:
            for host, count in counts.items():
                way = self.states[host].best(item.need, tight=tight)
                if way and (found is None or (count, way.score, host) < found[:3]):
                    found = (count, way.score, host, way.positions)
        return Place(found[2], found[3]) if found else None

    def all_places(self, item: Item, *, each: bool) -> list[Place]:
        """Return every place for a replica, best first; of hosts and GPUs that are alike only one, unless `each`."""
        counts = self.counts[item.server] if item.demand.spread != "none" else {}
        found = []
        for state, members in self.alike.items():
            ways = state.ways(item.need, tight=True, each=each)
            if not ways:
                continue
            free = [host for host in members if host not in counts]
            chosen = free if each else free[:1]
            taken = [] if item.is_apart else [host for host in members if host in counts]
            found += [(counts.get(host, 0), way.score, host, way.positions) for host in chosen + taken for way in ways]
        found.sort()
        return [Place(host, positions) for _, _, host, positions in found]

    def _change(self, item: Item, place: Place, sign: int) -> None:
        before = self.states[place.host]
        after = self.space.changed(before, item.need, place.positions, sign)
        self.states[place.host] = after
        members = self.alike[before]
        del members[bisect_left(members, place.host)]
        if not members:
            del self.alike[before]
        insort(self.alike.setdefault(after, []), place.host)
