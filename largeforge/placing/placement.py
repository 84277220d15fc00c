"""Place servers onto hosts: the one entry of this package."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from largeforge.placing.capacity import context_bytes
from largeforge.placing.changes import changes
from largeforge.placing.model import Placing, Refusal, Seat
from largeforge.placing.reasons import reasons
from largeforge.placing.search import WORK
from largeforge.placing.sharing import Wish, divided
from largeforge.placing.solving import solved, spread_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from largeforge.placing.board import Item
    from largeforge.placing.model import Demand, HostCapacity
    from largeforge.placing.solving import Solved

SHARE_DIGITS = 6
"""Digits of a share of a GPU. It is rounded up, by less than a megabyte of any GPU, which the reserve covers."""


def place(
    demands: Sequence[Demand],
    hosts: Sequence[HostCapacity],
    *,
    keep: Sequence[Seat] = (),
    alternatives: Callable[[Demand], Iterable[tuple[str, Demand]]] | None = None,
    work: int = WORK,
) -> Placing:
    """Return where every replica of every server runs, or why that is not possible and what would make it so.

    `keep` says where servers are now: they stay wherever that is possible. `alternatives` returns other forms of a
    demand with the override that makes each, the most welcome first; they are tried where something does not fit.
    `work` bounds the exact search. Raises ValueError for input that makes no sense.
    """
    _check(demands, hosts)
    demands = sorted(demands, key=lambda demand: demand.name)
    hosts = tuple(sorted(hosts, key=lambda host: host.name))
    found = solved(demands, hosts, keep, work=work)
    if found.failed:
        servers = tuple(sorted({item.demand.name for item in found.failed}))
        nearest = changes(found, demands, hosts, keep, alternatives)
        return Placing(refused=Refusal(servers, reasons(found), nearest, found.is_proven), hosts=hosts)
    found = spread_out(found, demands, keep)
    seats = _seats(found, keep)
    before = {(seat.server, seat.replica): seat for seat in keep}
    moved = [(before[seat.server, seat.replica], seat) for seat in seats if (seat.server, seat.replica) in before]
    moved = [(was, now) for was, now in moved if (was.host, sorted(was.gpus)) != (now.host, sorted(now.gpus))]
    return Placing(seats, _warnings(found), None, tuple(moved), hosts)


def _check(demands: Sequence[Demand], hosts: Sequence[HostCapacity]) -> None:
    for what, names in (("servers", [d.name for d in demands]), ("hosts", [host.name for host in hosts])):
        twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
        if twice:
            raise ValueError(f"{what} have the same name: {', '.join(twice)}")
    for demand in demands:
        if demand.replicas < 0 or demand.needed_bytes < 0 or demand.tensor_parallel_size < 1:
            raise ValueError(f"{demand.name}: replicas, needed_bytes and tensor_parallel_size must be positive")
    for host in hosts:
        indices = [gpu.index for gpu in host.gpus]
        if len(set(indices)) < len(indices):
            raise ValueError(f"{host.name}: two GPUs have the same index")


def _seats(found: Solved, keep: Sequence[Seat]) -> tuple[Seat, ...]:
    now = {(seat.server, seat.replica): seat for seat in keep}
    seats: list[Seat] = []
    for number, there in enumerate(found.board.on_host):
        if there:
            items = sorted(there.values(), key=lambda item: (item.server, item.replica))
            seats += _seats_on(found, number, items, now)
    return tuple(sorted(seats, key=lambda seat: (seat.server, seat.replica)))


def _seats_on(found: Solved, number: int, items: list[Item], now: dict[tuple[str, int], Seat]) -> list[Seat]:
    """Return the seats of one host."""
    kind, host = found.board.states[number].kind, found.board.hosts[number]
    memory = len(kind.gpus)  # a unit beside the GPUs
    units = [found.board.places[item.number].positions or (memory,) for item in items]
    capacity = {**dict(enumerate(kind.usable)), memory: host.memory_bytes}
    given = divided([Wish(item.need.cost, item.need.full, on) for item, on in zip(items, units, strict=True)], capacity)
    slots = _slots([now.get((item.demand.name, item.replica)) for item in items], host.name)
    seats = []
    for item, on, taken, slot in zip(items, units, given, slots, strict=True):
        gpus = () if item.need.on_cpu else tuple(kind.gpus[position].index for position in on)
        whole = host.memory_bytes if item.need.on_cpu else kind.gpus[on[0]].memory_bytes
        each = taken - context_bytes(item.demand)
        share = min(1.0, math.ceil(each / max(1, whole) * 10**SHARE_DIGITS) / 10**SHARE_DIGITS)
        seats.append(Seat(item.demand.name, item.replica, host.name, gpus, each, share, slot))
    return seats


def _slots(before: Sequence[Seat | None], host: str) -> list[int]:
    """Return the numbers of servers on a host: those that were there keep theirs, others get the lowest free ones."""
    slots: list[int | None] = []
    for seat in before:
        stays = seat is not None and seat.host == host and seat.slot not in slots
        slots.append(seat.slot if seat and stays else None)
    taken = {slot for slot in slots if slot is not None}
    free = (slot for slot in range(len(slots) + len(taken)) if slot not in taken)
    return [next(free) if slot is None else slot for slot in slots]


def _warnings(found: Solved) -> tuple[str, ...]:
    warnings = []
    for item in sorted(found.items, key=lambda item: (item.server, item.replica)):
        demand, counts = item.demand, found.board.counts[item.server]
        host, positions = found.board.places[item.number]
        name = found.board.hosts[host].name
        if item.replica == 0 and demand.spread == "hosts" and max(counts.values()) > 1:
            on = sorted(found.board.hosts[number].name for number, count in counts.items() if count > 1)
            warnings.append(
                f"{demand.name}: {demand.replicas} replicas are on {len(counts)} host{'s' if len(counts) > 1 else ''}; "
                f"more than one is on {', '.join(on)}"
            )
        if len(positions) > 1 and not found.board.states[host].kind.smallest_group(positions):
            warnings.append(f"{demand.name}#{item.replica}: its {len(positions)} GPUs on {name} are not linked")
    return tuple(warnings)
