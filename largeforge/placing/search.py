"""Find places for all replicas: greedily, then by exact search within a bound, then by making room one at a time.

The exact search ends with a proof: where it finds nothing there is nothing. It looks at `WORK` places at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from largeforge.placing.board import Board, Item, Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from largeforge.placing.states import State

WORK = 200_000
"""Places that an exact search looks at before it gives up: about a second."""
MAX_REMEMBERED_HOSTS = 64
"""With more hosts the exact search does not remember the boards from which nothing was found."""
MAX_ROOMS = 40
"""Places that are tried to make room for one replica."""
MAX_VICTIMS = 3
"""Replicas that move to make room for another."""


def seated(board: Board, items: Sequence[Item], *, tight: bool, with_room: bool = False) -> list[Item]:
    """Put all replicas on the board, those that stay first; return those that found no place."""
    waiting = []
    for item in items:
        if item.kept and board.fits(item, item.kept):
            board.put(item, item.kept)
        else:
            waiting.append(item)
    left = []
    for item in waiting:
        place = board.best(item, tight=tight)
        if place:
            board.put(item, place)
        elif not (with_room and make_room(board, item, may_move=False)):
            left.append(item)
    return left


def make_room(board: Board, item: Item, *, may_move: bool) -> bool:
    """Put a replica where smaller ones are, and these elsewhere; those that stay only with `may_move`."""
    for place, victims in _rooms(board, item, may_move)[:MAX_ROOMS]:
        before = [(victim, board.take(victim)) for victim in victims]
        board.put(item, place)
        moved = []
        for victim in sorted(victims, key=lambda victim: (victim.weight, -victim.number), reverse=True):
            elsewhere = board.best(victim, tight=True)
            if not elsewhere:
                break
            board.put(victim, elsewhere)
            moved.append(victim)
        else:
            return True
        for mover in (*moved, item):
            board.take(mover)
        for victim, was in before:
            board.put(victim, was)
    return False


def _rooms(board: Board, item: Item, may_move: bool) -> list[tuple[Place, list[Item]]]:
    """Return places with the replicas that would have to leave them, those first from which least has to leave."""
    found = []
    for host in range(len(board.hosts)):
        if not item.need.may_be_on(board.states[host].kind):
            continue
        if item.is_apart and host in board.counts[item.server]:
            continue
        movers = [
            other
            for other in board.on_host[host].values()
            if other.weight < item.weight and (may_move or board.places[other.number] != other.kept)
        ]
        if not movers:
            continue
        for place, victims in _emptied(board, item, host, movers):
            cost = sum(victim.need.cost * max(1, victim.need.size) for victim in victims)
            found.append((len(victims), cost, place, victims))
    found.sort(key=lambda room: room[:3])
    return [(place, victims) for _, _, place, victims in found]


def _emptied(board: Board, item: Item, host: int, movers: list[Item]) -> Iterator[tuple[Place, list[Item]]]:
    """Yield places of one host for a replica, once some of the replicas there have left."""
    state, leaving = board.states[host], dict.fromkeys(range(len(board.hosts[host].gpus)), 0)
    for mover in movers:
        positions = board.places[mover.number].positions
        state = board.space.changed(state, mover.need, positions, -1)
        for position in positions:
            leaving[position] += mover.need.cost
    for positions in _sets(state, item, leaving):
        victims = _victims(board, item, Place(host, positions), movers)
        if 0 < len(victims) <= MAX_VICTIMS:
            yield Place(host, positions), victims


def _sets(state: State, item: Item, leaving: Mapping[int, int]) -> Iterator[tuple[int, ...]]:
    """Yield GPUs for a replica: each where it needs one, else those of each group from which least has to leave."""
    kind, size = state.kind, item.need.size
    if item.need.on_cpu:
        yield ()
        return
    fitting = [p for p in sorted(leaving, key=lambda p: (leaving[p], p)) if state.fits_gpu(item.need, p)]
    if size == 1:
        yield from ((p,) for p in fitting)
        return
    for group in (*kind.groups, range(len(kind.gpus))):
        for make in sorted(set(kind.makes)):
            chosen = [p for p in fitting if p in group and kind.makes[p] == make][:size]
            if len(chosen) == size:
                yield tuple(sorted(chosen))


def _victims(board: Board, item: Item, place: Place, movers: list[Item]) -> list[Item]:
    """Return which replicas have to leave, no more than needed: smallest first, then the needless back."""
    state, victims = board.states[place.host], []
    for mover in sorted(movers, key=lambda mover: (mover.need.cost, mover.number)):
        if state.fits(item.need, place.positions):
            break
        where = board.places[mover.number].positions
        if mover.need.on_cpu if item.need.on_cpu else set(where) & set(place.positions):
            state = board.space.changed(state, mover.need, where, -1)
            victims.append(mover)
    for victim in tuple(victims):
        where = board.places[victim.number].positions
        with_it = board.space.changed(state, victim.need, where)
        if with_it.fits(item.need, place.positions):
            state = with_it
            victims.remove(victim)
    return victims if state.fits(item.need, place.positions) else []


@dataclass
class Search:
    """An exact search: depth first through all places, remembering the boards from which nothing was found."""

    board: Board
    items: Sequence[Item]
    """Not on the board yet; replicas of one server one after the other."""
    work: int
    """Places that may still be looked at."""

    def run(self) -> bool | None:
        """Put all on the board with the fewest moves; False when there is no way, None when the bound was reached."""
        if not self.items:
            return True
        num_kept = sum(item.kept is not None for item in self.items)
        for moves in range(num_kept + 1):
            found = self._with(moves)
            if found is not False:
                return found
        return False

    def _with(self, moves: int) -> bool | None:
        """Put all on the board with at most so many moves."""
        order = self.items if moves else sorted(self.items, key=lambda item: item.kept is None)
        has_kept = any(item.kept for item in order)
        dead: set[object] = set()
        left = [moves]
        levels = [self._choices(order[0], moves, has_kept)]
        keys: list[object] = [None]
        while levels:
            depth = len(levels) - 1
            if order[depth].number in self.board.places:
                self.board.take(order[depth])
            place = next(levels[-1], None)
            if place is None:
                dead.add(keys.pop())
                levels.pop()
                left.pop()
                continue
            if self.work <= 0:
                self._clear(order)
                return None
            item = order[depth]
            self.board.put(item, place)
            if depth + 1 == len(order):
                return True
            rest = left[-1] - (item.kept is not None and place != item.kept)
            key = self._key(order[depth + 1], depth, rest, has_kept)
            if key is None or key not in dead:
                keys.append(key)
                left.append(rest)
                levels.append(self._choices(order[depth + 1], rest, has_kept))
        return False

    def _choices(self, item: Item, moves: int, has_kept: bool) -> Iterator[Place]:
        stays = item.kept is not None and self.board.fits(item, item.kept)
        self.work -= 1
        if item.kept and stays:
            yield item.kept
        if item.kept is None or moves:
            places = self.board.all_places(item, each=has_kept)
            self.work -= len(places)
            yield from (place for place in places if place != item.kept)

    def _key(self, item: Item, depth: int, moves: int, has_kept: bool) -> object:
        """Return what the rest of the search depends on; None where the fleet is too large to remember it."""
        states = self.board.states
        if len(states) > MAX_REMEMBERED_HOSTS:
            return None
        taken = self.board.counts[item.server] if item.is_apart else {}
        marks = [(state.number, host in taken) for host, state in enumerate(states)]
        return (depth, moves, tuple(marks if has_kept else sorted(marks)))

    def _clear(self, order: Sequence[Item]) -> None:
        for item in order:
            if item.number in self.board.places:
                self.board.take(item)
