"""Find a place for every replica of all servers, moving as few as possible of those that are somewhere already."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING

from largeforge.placing.board import Board, Item, Place
from largeforge.placing.search import WORK, Search, make_room, seated
from largeforge.placing.states import States

if TYPE_CHECKING:
    from collections.abc import Sequence

    from largeforge.placing.model import Demand, HostCapacity, Seat

QUICK = WORK // 20
"""Bound of a search whose failure costs little."""


@dataclass
class Solved:
    """A board with all replicas, or with those that found a place before others failed."""

    board: Board
    items: list[Item]
    failed: list[Item] = field(default_factory=list)
    is_proven: bool = True
    """Whether, where some failed, there is certainly no way."""
    misfits: bool = False
    """Whether those that failed would not fit alone."""

    @property
    def num_moves(self) -> int:
        """How many could have stayed alone, and do not stay."""
        return sum(item.kept is not None and self.board.places.get(item.number) != item.kept for item in self.items)


def solved(
    demands: Sequence[Demand],
    hosts: Sequence[HostCapacity],
    keep: Sequence[Seat],
    *,
    work: int,
    states: States | None = None,
) -> Solved:
    """Find a place for every replica; `spread` is a rule only as `hosts!`, else a wish that has no claim.

    `states` of an earlier call are what that one found out about hosts.
    """
    board = Board(hosts, states or States(), len(demands))
    items = _items(demands, board, keep)
    misfits = _misfits(board, items)
    if misfits:
        return Solved(board, items, misfits, misfits=True)
    failed = seated(board, items, tight=False)
    if not failed:
        return _with_fewer_moves(Solved(board, items), work)
    board = board.emptied()
    failed = seated(board, items, tight=True, with_room=True)
    if not failed:
        return _with_fewer_moves(Solved(board, items), work)
    if _is_too_much(items, board):
        return Solved(board, items, failed)
    found, exact = _searched(board, items, work)
    if found:
        return _roomier(Solved(exact, items))
    if found is None:
        failed = [item for item in failed if not make_room(board, item, may_move=True)]
        if not failed:
            return _roomier(Solved(board, items))
    return Solved(board, items, failed, is_proven=found is False)


def spread_out(found: Solved, demands: Sequence[Demand], keep: Sequence[Seat]) -> Solved:
    """Return a solution that has replicas on different hosts where it could be found, with no more moves."""
    crowded = _crowded(found)
    hosts = found.board.hosts
    tight = {
        demand.name
        for number, demand in enumerate(demands)
        if demand.spread == "hosts" and demand.replicas <= len(hosts) and not _keeps_together(found.items, number)
    }
    while crowded & tight:
        strict = [replace(demand, spread="hosts!") if demand.name in tight else demand for demand in demands]
        tried = solved(strict, hosts, keep, work=QUICK, states=found.board.space)
        if not tried.failed:
            return tried if tried.num_moves <= found.num_moves else found
        loose = {item.demand.name for item in tried.failed} & tight
        tight -= loose or (tight & crowded)
    return found


def _crowded(found: Solved) -> set[str]:
    """Return the servers of which two replicas share a host and would rather not."""
    return {
        item.demand.name
        for item in found.items
        if item.demand.spread == "hosts" and max(found.board.counts[item.server].values()) > 1
    }


def _keeps_together(items: Sequence[Item], server: int) -> bool:
    hosts = [item.kept.host for item in items if item.server == server and item.kept]
    return len(set(hosts)) < len(hosts)


def _items(demands: Sequence[Demand], board: Board, keep: Sequence[Seat]) -> list[Item]:
    """Return all replicas, the hardest first; those of one server one after the other."""
    now = {(seat.server, seat.replica): seat for seat in keep}
    host_number = {host.name: number for number, host in enumerate(board.hosts)}
    items: list[Item] = []
    for server, demand in enumerate(demands):
        need = board.space.need(demand)
        for replica in range(demand.replicas):
            seat = now.get((demand.name, replica))
            place = _place_of(seat, board, host_number) if seat else None
            kept = place if place and board.states[place.host].fits(need, place.positions) else None
            items.append(Item(demand, replica, need, server, 0, kept))
    items.sort(key=lambda item: (*(-part for part in item.weight), item.server, item.replica))
    for number, item in enumerate(items):
        item.number = number
    return items


def _place_of(seat: Seat, board: Board, host_number: dict[str, int]) -> Place | None:
    host = host_number.get(seat.host)
    if host is None:
        return None
    positions = {gpu.index: place for place, gpu in enumerate(board.states[host].kind.gpus)}
    if not all(index in positions for index in seat.gpus):
        return None
    return Place(host, tuple(sorted(positions[index] for index in seat.gpus)))


def _misfits(board: Board, items: Sequence[Item]) -> list[Item]:
    """Return the replicas that would not fit if no other server were there."""
    able: dict[tuple[object, int], int] = {}
    misfits = []
    for item in items:
        enough = item.demand.replicas if item.is_apart else 1
        if (item.need, enough) not in able:
            fitting = (state for state in board.idle if state.best(item.need, tight=False))
            able[item.need, enough] = sum(1 for _ in islice(fitting, enough))
        if able[item.need, enough] < (item.replica + 1 if item.is_apart else 1):
            misfits.append(item)
    return misfits


def _is_too_much(items: Sequence[Item], board: Board) -> bool:
    """Return whether all together need more than there is, however it is divided."""
    on_gpu = sum(item.need.cost * item.need.size for item in items)
    on_cpu = [item.need.cost for item in items if item.need.on_cpu]
    kinds = [state.kind for state in board.idle]
    cores, memory = sum(kind.host.cores for kind in kinds), sum(kind.host.memory_bytes for kind in kinds)
    return on_gpu > sum(sum(kind.usable) for kind in kinds) or sum(on_cpu) > memory or len(on_cpu) > cores


def _searched(board: Board, items: Sequence[Item], work: int) -> tuple[bool | None, Board]:
    fresh = board.emptied()
    return Search(fresh, items, work).run(), fresh


def _with_fewer_moves(found: Solved, work: int) -> Solved:
    """Return a solution with the fewest moves; one move is always needed where not all could stay."""
    if found.num_moves < 2:
        return found
    ended, exact = _searched(found.board, found.items, work)
    better = Solved(exact, found.items)
    return _roomier(better) if ended and better.num_moves < found.num_moves else found


def _roomier(found: Solved) -> Solved:
    """Return a solution in which the same stay, and the others have more memory for their KV cache where possible."""
    staying = {item.number for item in found.items if item.kept == found.board.places[item.number]}
    board = found.board.emptied()
    items = [item if item.number in staying else replace(item, kept=None) for item in found.items]
    if seated(board, items, tight=False) or Solved(board, found.items).num_moves > found.num_moves:
        return found
    return Solved(board, found.items)
