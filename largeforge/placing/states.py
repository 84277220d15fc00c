"""What is taken of a host, and the ways in which a server fits into what is left.

A fleet has many hosts in few states. States are shared and never change, and each remembers the ways in which a server
fits into it: a thousand hosts cost hardly more than one while they are alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from largeforge.placing.capacity import allowed_values, allows, context_bytes, usable_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from largeforge.placing.model import Demand, HostCapacity

MAX_SETS = 512
"""Sets of GPUs of one host that are looked at for one server; sets of GPUs that are alike count once."""
Score = tuple[int, int, int, int, int, tuple[int, ...]]


class Slot(NamedTuple):
    """What is taken of one GPU, or of a host's memory."""

    used: int = 0
    """Bytes at the least."""
    full: int = 0
    """Bytes if every server were given all that it wants."""
    servers: int = 0
    is_exclusive: bool = False

    def plus(self, need: Need, sign: int = 1) -> Slot:
        """Return it with a server more, or less with `sign=-1`."""
        exclusive = need.is_exclusive if sign > 0 else False
        return Slot(self.used + sign * need.cost, self.full + sign * need.full, self.servers + sign, exclusive)


class Way(NamedTuple):
    """A way in which a server fits into a host; the lower its score, the better."""

    score: Score
    positions: tuple[int, ...]
    """GPUs, counted in the order of their index; empty on a CPU."""


@dataclass(eq=False)
class Need:
    """What a replica takes; the same object for servers that are alike."""

    demand: Demand
    number: int

    def __post_init__(self) -> None:
        demand = self.demand
        self.on_cpu = demand.device == "cpu"
        self.size = 0 if self.on_cpu else demand.tensor_parallel_size
        self.cost = demand.needed_bytes + context_bytes(demand)
        self.full = demand.full_bytes + context_bytes(demand)
        self.is_exclusive = demand.exclusive and not self.on_cpu
        self.allowed: dict[Kind, bool] = {}

    def may_be_on(self, kind: Kind) -> bool:
        """Return whether roles and labels allow a host."""
        if kind not in self.allowed:
            self.allowed[kind] = allows(kind.host, self.demand)
        return self.allowed[kind]


@dataclass(eq=False)
class Kind:
    """What hosts that are alike have."""

    host: HostCapacity

    def __post_init__(self) -> None:
        self.gpus = sorted(self.host.gpus, key=lambda gpu: gpu.index)
        self.usable = [usable_bytes(gpu) for gpu in self.gpus]
        self.makes = [(gpu.name, gpu.memory_bytes) for gpu in self.gpus]
        position = {gpu.index: place for place, gpu in enumerate(self.gpus)}
        groups = {frozenset(position[index] for index in group if index in position) for group in self.host.links}
        self.groups = sorted((group for group in groups if len(group) > 1), key=lambda group: (len(group), *group))
        self.member = [tuple(n for n, group in enumerate(self.groups) if p in group) for p in range(len(self.gpus))]

    def smallest_group(self, positions: tuple[int, ...]) -> int:
        """Return the size of the smallest group of linked GPUs that has them all; 0 where none has."""
        return next((len(group) for group in self.groups if group.issuperset(positions)), 0)


@dataclass(eq=False)
class State:
    """What is taken of a host of some kind."""

    kind: Kind
    slots: tuple[Slot, ...]
    memory: Slot
    number: int

    def __post_init__(self) -> None:
        self._ways: dict[tuple[int, bool, bool], list[Way]] = {}
        self._best: dict[tuple[int, bool], Way | None] = {}
        self.num_idle = sum(not slot.servers for slot in self.slots)

    def best(self, need: Need, *, tight: bool) -> Way | None:
        """Return the best way in which a server fits, None where it does not; much quicker than all `ways`."""
        key = (need.number, tight)
        if key not in self._best:
            self._best[key] = self._found_best(need, tight)
        return self._best[key]

    def ways(self, need: Need, *, tight: bool, each: bool = False) -> list[Way]:
        """Return the ways in which a server fits, best first.

        That is on linked GPUs, where all servers get the memory that they want, where least is left. With `tight`
        what is left comes before what they want. Of sets of GPUs that are alike there is only one, unless `each`.
        """
        key = (need.number, tight, each)
        if key not in self._ways:
            self._ways[key] = sorted(self._found(need, tight, each))
        return self._ways[key]

    def fits(self, need: Need, positions: tuple[int, ...]) -> bool:
        """Return whether a server fits on these GPUs."""
        kind = self.kind
        if not need.may_be_on(kind) or len(positions) != need.size:
            return False
        if need.on_cpu:
            return self._fits_memory(need)
        alike = len({kind.makes[position] for position in positions}) == 1
        return alike and all(self.fits_gpu(need, position) for position in positions)

    def _found(self, need: Need, tight: bool, each: bool) -> Iterator[Way]:
        if not need.may_be_on(self.kind):
            return
        if need.on_cpu:
            if self._fits_memory(need):
                usable = self.kind.host.memory_bytes
                short, left = _short(self.memory, need, usable), usable - self.memory.used - need.cost
                first, second = (left, short) if tight else (short, left)
                yield Way((int(bool(self.slots)), first, second, 0, 0, ()), ())
            return
        for positions in self._sets(need, each):
            yield self._way(need, positions, tight)

    def _found_best(self, need: Need, tight: bool) -> Way | None:
        """Return the best way: on the GPUs of each group that are best one by one, since scores add up."""
        if need.on_cpu:
            return min(self._found(need, tight, each=False), default=None)
        kind = self.kind
        if not need.may_be_on(kind):
            return None
        ranked = []
        cost, full = need.cost, need.full
        for p, (usable, slot) in enumerate(zip(kind.usable, self.slots, strict=True)):
            left = usable - slot.used - cost
            if left < 0 or (slot.servers and (slot.is_exclusive or need.is_exclusive)):
                continue
            over = slot.full - usable  # as in _short, written out: this is where the time of a large fleet goes
            short = over + full - max(0, over) if over + full > 0 else 0
            ranked.append((left, short, p) if tight else (short, left, p))
        ranked.sort()
        if need.size == 1:
            if not ranked:
                return None
            first, second, p = ranked[0]
            idle = self.num_idle - (not self.slots[p].servers)
            return Way((0, first, second, kind.smallest_group((p,)), idle, (p,)), (p,))
        found = []
        for make in {kind.makes[p] for _, _, p in ranked}:
            for group in (*kind.groups, range(len(self.slots))):
                chosen = [p for _, _, p in ranked if kind.makes[p] == make and p in group][: need.size]
                if len(chosen) == need.size:
                    found.append(self._way(need, tuple(sorted(chosen)), tight))
        return min(found, default=None)

    def _way(self, need: Need, positions: tuple[int, ...], tight: bool) -> Way:
        return Way(self._score(need, positions, tight), positions)

    def _score(self, need: Need, positions: tuple[int, ...], tight: bool) -> Score:
        usable = self.kind.usable
        short = sum(_short(self.slots[p], need, usable[p]) for p in positions)
        left = sum(usable[p] - self.slots[p].used - need.cost for p in positions)
        group = self.kind.smallest_group(positions)
        unlinked = int(len(positions) > 1 and not group)
        idle = sum(not slot.servers for p, slot in enumerate(self.slots) if p not in positions)
        first, second = (left, short) if tight else (short, left)
        return (unlinked, first, second, group, idle, positions)

    def _sets(self, need: Need, each: bool) -> Iterator[tuple[int, ...]]:
        """Yield the sets of equal GPUs on which a server fits; of those that are alike the first, unless `each`."""
        kind = self.kind
        fitting = [p for p in range(len(self.slots)) if self.fits_gpu(need, p)]
        fitting.sort(key=lambda p: (kind.usable[p] - self.slots[p].used, p))
        seen: set[tuple[int, ...]] = set()
        for make in sorted({kind.makes[p] for p in fitting}):
            equal = [p for p in fitting if kind.makes[p] == make]
            for group in (*kind.groups, frozenset(equal)) if need.size > 1 else (frozenset(equal),):
                for positions in _chosen(self._alike([p for p in equal if p in group], each), need.size):
                    if positions not in seen:
                        seen.add(positions)
                        yield positions
                    if len(seen) >= MAX_SETS:
                        return

    def _alike(self, positions: Sequence[int], each: bool) -> list[list[int]]:
        """Return GPUs in groups of those that it makes no difference to choose between."""
        found: dict[tuple[object, ...], list[int]] = {}
        for p in positions:
            alike = (self.slots[p], self.kind.usable[p], self.kind.member[p])
            found.setdefault((p,) if each else alike, []).append(p)
        return list(found.values())

    def fits_gpu(self, need: Need, position: int) -> bool:
        """Return whether one GPU has room for a server, whatever its other GPUs have."""
        slot = self.slots[position]
        if slot.is_exclusive or (need.is_exclusive and slot.servers):
            return False
        return slot.used + need.cost <= self.kind.usable[position]

    def _fits_memory(self, need: Need) -> bool:
        host, slot = self.kind.host, self.memory
        return slot.servers < host.cores and slot.used + need.cost <= host.memory_bytes


class States:
    """All kinds, needs and states of one placement, each once."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[object, ...], Kind] = {}
        self._needs: dict[tuple[object, ...], Need] = {}
        self._states: dict[tuple[Kind, tuple[Slot, ...], Slot], State] = {}

    def idle(self, host: HostCapacity) -> State:
        """Return the state of a host that has no server."""
        gpus = tuple(sorted((gpu.index, gpu.name, gpu.memory_bytes, usable_bytes(gpu)) for gpu in host.gpus))
        links = tuple(sorted({tuple(sorted(group)) for group in host.links}))
        labels = tuple(sorted(host.labels.items()))
        key = (gpus, links, host.memory_bytes, host.cores, labels, host.roles)
        kind = self._kinds.setdefault(key, Kind(host))
        return self._state(kind, (Slot(),) * len(gpus), Slot())

    def need(self, demand: Demand) -> Need:
        """Return what a replica of a server takes."""
        labels = [
            tuple((name, allowed_values(v)) for name, v in sorted(d.items())) for d in (demand.labels, demand.avoid)
        ]
        size, given = demand.tensor_parallel_size, (demand.needed_bytes, demand.full_bytes)
        key = (demand.device, size, *given, demand.exclusive, *labels)
        return self._needs.setdefault(key, Need(demand, len(self._needs)))

    def changed(self, state: State, need: Need, positions: tuple[int, ...], sign: int = 1) -> State:
        """Return the state with a server more, or less with `sign=-1`."""
        if need.on_cpu:
            return self._state(state.kind, state.slots, state.memory.plus(need, sign))
        slots = list(state.slots)
        for position in positions:
            slots[position] = slots[position].plus(need, sign)
        return self._state(state.kind, tuple(slots), state.memory)

    def _state(self, kind: Kind, slots: tuple[Slot, ...], memory: Slot) -> State:
        key = (kind, slots, memory)
        found = self._states.get(key)
        if found is None:
            found = self._states[key] = State(kind, slots, memory, len(self._states))
        return found


def _short(slot: Slot, need: Need, usable: int) -> int:
    """Return by how much a server adds to what cannot be given of what all want."""
    return max(0, slot.full + need.full - usable) - max(0, slot.full - usable)


def _chosen(classes: Sequence[list[int]], size: int) -> Iterator[tuple[int, ...]]:
    """Yield choices of `size` GPUs from classes of equal ones, most of the first classes first."""
    if size == 0:
        yield ()
        return
    if sum(map(len, classes)) < size:
        return
    for count in range(min(size, len(classes[0])), -1, -1):
        for rest in _chosen(classes[1:], size - count):
            yield tuple(sorted((*classes[0][:count], *rest)))
