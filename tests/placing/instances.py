"""Small instances of placement, a checker that shares no code with it, and brute force."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from largeforge.estimate.serving import CONTEXT_BYTES
from largeforge.placing import Demand, Gpu, HostCapacity, Placing, Seat

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

GIB = 2**30
Pick = Callable[[Sequence[Any]], Any]
"""Chooses one of several values: `random.Random(1).choice`, or what hypothesis draws."""
Where = tuple[str, tuple[int, ...]]


def host(name: str, *free_gib: float, **more: object) -> HostCapacity:
    """Return a host with GPUs of 80 GiB that have so much free."""
    gpus = tuple(Gpu(index, "H100", 80 * GIB, int(free * GIB)) for index, free in enumerate(free_gib))
    return HostCapacity(name, gpus, **more)  # type: ignore[arg-type]


def server(name: str, needed_gib: float = 10, wanted_gib: float = 0, **more: object) -> Demand:
    """Return a server with one replica on one GPU."""
    return Demand(name, needed_bytes=int(needed_gib * GIB), wanted_bytes=int(wanted_gib * GIB), **more)  # type: ignore[arg-type]


def capacity_of(there: HostCapacity, gpu: Gpu | None) -> int:
    """Return what servers may take of a GPU, or of the host's memory: 2 % of a GPU are kept."""
    return there.memory_bytes if gpu is None else int(min(gpu.memory_bytes, gpu.free_bytes) * 0.98)


def complaints(demands: Sequence[Demand], hosts: Sequence[HostCapacity], seats: Sequence[Seat]) -> list[str]:
    """Return every rule that the seats break."""
    by_host = {there.name: there for there in hosts}
    by_name = {demand.name: demand for demand in demands}
    found = []
    wanted = Counter((demand.name, replica) for demand in demands for replica in range(demand.replicas))
    if Counter((seat.server, seat.replica) for seat in seats) != wanted:
        found.append("not every replica has one seat")
    taken: Counter[tuple[str, int | None]] = Counter()
    on: dict[tuple[str, int | None], list[Demand]] = {}
    for seat in seats:
        demand, there = by_name[seat.server], by_host[seat.host]
        gpus = {gpu.index: gpu for gpu in there.gpus}
        units = list(seat.gpus) or [None]
        if len(set(seat.gpus)) != (0 if demand.device == "cpu" else demand.tensor_parallel_size):
            found.append(f"{seat}: wrong number of GPUs")
        if len({(gpus[index].name, gpus[index].memory_bytes) for index in seat.gpus}) > 1:
            found.append(f"{seat}: GPUs are not equal")
        if not demand.needed_bytes <= seat.bytes_each <= max(demand.needed_bytes, demand.wanted_bytes):
            found.append(f"{seat}: given too little or too much")
        whole = gpus[seat.gpus[0]].memory_bytes if seat.gpus else there.memory_bytes
        if not seat.bytes_each <= seat.share * whole + 1 <= seat.bytes_each + 2e6 or seat.share > 1:
            found.append(f"{seat}: share is not that of its bytes")
        if not suits(there, demand):
            found.append(f"{seat}: labels or roles")
        for unit in units:
            taken[there.name, unit] += seat.bytes_each + (0 if unit is None else int(CONTEXT_BYTES))
            on.setdefault((there.name, unit), []).append(demand)
    for (name, unit), given in taken.items():
        there = by_host[name]
        gpu = next((gpu for gpu in there.gpus if gpu.index == unit), None)
        if given > capacity_of(there, gpu):
            found.append(f"{name} {unit}: {given} bytes given")
        if unit is None and len(on[name, unit]) > there.cores:
            found.append(f"{name}: more servers than cores")
        if unit is not None and len(on[name, unit]) > 1 and any(demand.exclusive for demand in on[name, unit]):
            found.append(f"{name} {unit}: shared by an exclusive server")
    for demand in demands:
        hosts_of = [seat.host for seat in seats if seat.server == demand.name]
        if demand.spread == "hosts!" and len(set(hosts_of)) < len(hosts_of):
            found.append(f"{demand.name}: replicas share a host")
    if max(Counter((seat.host, seat.slot) for seat in seats).values(), default=1) > 1:
        found.append("two servers of a host have the same slot")
    return found


def suits(there: HostCapacity, demand: Demand) -> bool:
    """Return whether roles and labels allow a server."""

    def values(rule: object) -> list[str]:
        return [rule] if isinstance(rule, str) else list(rule)  # type: ignore[call-overload]

    if there.roles and "serve" not in there.roles:
        return False
    if any(there.labels.get(name) not in values(rule) for name, rule in demand.labels.items()):
        return False
    return not any(there.labels.get(name) in values(rule) for name, rule in demand.avoid.items())


def brute_force(
    demands: Sequence[Demand], hosts: Sequence[HostCapacity], now: Mapping[tuple[str, int], Where]
) -> int | None:
    """Return the fewest replicas of those in `now` that have to move, None where there is no way, by trying all."""
    replicas = [(demand, replica) for demand in demands for replica in range(demand.replicas)]
    left = {(there.name, gpu): capacity_of(there, gpu) for there in hosts for gpu in (*there.gpus, None)}
    on: dict[tuple[str, Gpu | None], list[Demand]] = {key: [] for key in left}
    used: set[tuple[str, str]] = set()
    best: int | None = None

    def place(number: int, moves: int) -> None:
        nonlocal best
        if best is not None and moves >= best:
            return
        if number == len(replicas):
            best = moves
            return
        demand, replica = replicas[number]
        for there, units in _ways(demand, hosts):
            keys = [(there.name, unit) for unit in units]
            cost = demand.needed_bytes + (0 if demand.device == "cpu" else int(CONTEXT_BYTES))
            if any(left[key] < cost for key in keys) or (demand.device == "cpu" and len(on[keys[0]]) >= there.cores):
                continue
            if demand.device == "cuda" and any(on[key] and (demand.exclusive or on[key][0].exclusive) for key in keys):
                continue
            if demand.spread == "hosts!" and (demand.name, there.name) in used:
                continue
            before = now.get((demand.name, replica))
            here = (there.name, tuple(unit.index for unit in units if unit))
            for key in keys:
                left[key] -= cost
                on[key].append(demand)
            had = (demand.name, there.name) in used
            used.add((demand.name, there.name))
            place(number + 1, moves + (before is not None and before != here))
            if not had:
                used.discard((demand.name, there.name))
            for key in keys:
                left[key] += cost
                on[key].pop()

    place(0, 0)
    return best


def could_stay(
    demands: Sequence[Demand], hosts: Sequence[HostCapacity], seats: Sequence[Seat]
) -> dict[tuple[str, int], Where]:
    """Return the seats in which a replica could stay if it were alone."""
    by_name = {demand.name: demand for demand in demands}
    found = {}
    for seat in seats:
        demand = by_name.get(seat.server)
        if demand is None or seat.replica >= demand.replicas:
            continue
        where = (seat.host, tuple(sorted(seat.gpus)))
        only = [there for there in hosts if there.name == seat.host]
        ways = [(there.name, tuple(gpu.index for gpu in units if gpu)) for there, units in _ways(demand, only)]
        cost = demand.needed_bytes + (0 if demand.device == "cpu" else int(CONTEXT_BYTES))
        room = all(
            capacity_of(there, gpu) >= cost
            for there in only
            for gpu in ([gpu for gpu in there.gpus if gpu.index in seat.gpus] or [None])
        )
        cores = demand.device == "cuda" or all(there.cores for there in only)
        if where in ways and room and cores:
            found[seat.server, seat.replica] = where
    return found


def _ways(demand: Demand, hosts: Sequence[HostCapacity]) -> Iterator[tuple[HostCapacity, tuple[Gpu | None, ...]]]:
    for there in hosts:
        if not suits(there, demand):
            continue
        if demand.device == "cpu":
            yield there, (None,)
            continue
        for gpus in combinations(there.gpus, demand.tensor_parallel_size):
            if len({(gpu.name, gpu.memory_bytes) for gpu in gpus}) == 1:
                yield there, gpus


def random_fleet(pick: Pick) -> tuple[HostCapacity, ...]:
    """Pick one to three hosts with up to four GPUs of two makes, some of them taken in part by others."""
    found = []
    for name in ("a", "b", "c")[: pick([1, 2, 2, 3])]:
        makes = [pick([("A", 24), ("A", 24), ("B", 48)]) for _ in range(pick([1, 2, 2, 3, 3, 4]))]
        gpus = tuple(
            Gpu(index, make, size * GIB, (size - pick([0, 0, 0, 0, 6])) * GIB)
            for index, (make, size) in enumerate(makes)
        )
        links = pick([(), ((0, 1),), ((0, 1, 2),), ((1, 2), (0, 1))])
        labels = pick([{}, {"zone": "eu"}, {"zone": "us"}])
        memory, cores = pick([(0, 0), (16, 2), (16, 4)])
        roles = pick([(), (), (), (), ("serve",), ("train",)])
        found.append(HostCapacity(name, gpus, links, memory * GIB, cores, labels, roles))
    return tuple(found)


def random_servers(pick: Pick) -> tuple[Demand, ...]:
    """Pick servers with up to five replicas in all."""
    found: list[Demand] = []
    for name in ("e", "d", "c", "b", "a")[: pick([1, 2, 3, 3, 4])]:
        on_cpu = pick([False, False, False, False, False, True])
        needed = pick([3, 7, 8] if on_cpu else [4, 5, 7, 8, 11, 11, 15, 20, 22])
        replicas = pick([1, 1, 1, 2, 3])
        if sum(demand.replicas for demand in found) + replicas > 5:
            break
        demand = Demand(
            name,
            replicas=replicas,
            device="cpu" if on_cpu else "cuda",
            tensor_parallel_size=1 if on_cpu else pick([1, 1, 1, 1, 1, 1, 2, 2, 3]),
            needed_bytes=needed * GIB,
            wanted_bytes=(needed + pick([0, 4, 30])) * GIB,
            exclusive=pick([False] * 7 + [True]),
            labels=pick([{}, {}, {}, {}, {}, {}, {}, {"zone": "eu"}, {"zone": ("eu", "us")}]),
            avoid=pick([{}, {}, {}, {}, {}, {"zone": "us"}]),
            spread=pick(["none", "none", "hosts", "hosts", "hosts!"]),
        )
        found.append(demand)
    return tuple(found)


@st.composite
def fleets(draw: st.DrawFn) -> tuple[HostCapacity, ...]:
    """Draw a fleet."""
    return random_fleet(lambda values: draw(st.sampled_from(values)))


@st.composite
def demands(draw: st.DrawFn) -> tuple[Demand, ...]:
    """Draw servers."""
    return random_servers(lambda values: draw(st.sampled_from(values)))


def where(placing: Placing) -> dict[tuple[str, int], Where]:
    """Return host and GPUs of each replica."""
    return {(seat.server, seat.replica): (seat.host, seat.gpus) for seat in placing.seats}
