"""Thousands of small instances: a way is found whenever brute force finds one, and every rule holds."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from largeforge.placing import Demand, HostCapacity, place
from tests.placing.instances import brute_force, complaints, could_stay, demands, fleets, where

Servers, Fleet = tuple[Demand, ...], tuple[HostCapacity, ...]


@settings(max_examples=2500)
@given(demands(), fleets())
def test_a_way_is_found_whenever_there_is_one(servers: Servers, fleet: Fleet) -> None:
    placing = place(servers, fleet)
    exists = brute_force(servers, fleet, {}) is not None
    assert (placing.refused is None) == exists
    if placing.refused:
        assert placing.refused.is_proven
        assert not placing.seats
        assert placing.refused.reasons
    else:
        assert complaints(servers, fleet, placing.seats) == []


@settings(max_examples=1000)
@given(demands(), demands(), fleets(), fleets())
def test_as_few_as_possible_move(before: Servers, after: Servers, fleet: Fleet, other: Fleet) -> None:
    was = place(before, fleet)
    for fleet_now in (fleet, other):
        now = place(after, fleet_now, keep=was.seats)
        there = could_stay(after, fleet_now, was.seats)
        fewest = brute_force(after, fleet_now, there)
        assert (now.refused is None) == (fewest is not None)
        if now.refused is None:
            assert complaints(after, fleet_now, now.seats) == []
            places = where(now)
            assert sum(places[replica] != place for replica, place in there.items()) == fewest


@settings(max_examples=300)
@given(demands(), fleets(), st.randoms(use_true_random=False))
def test_order_does_not_matter(servers: Servers, fleet: Fleet, draw: random.Random) -> None:
    def shuffled(items: tuple[object, ...]) -> tuple[object, ...]:
        return tuple(draw.sample(items, len(items)))

    first = place(servers, fleet)
    again = place(shuffled(servers), shuffled(fleet), keep=shuffled(first.seats))  # type: ignore[arg-type]
    anew = place(shuffled(servers), shuffled(fleet))  # type: ignore[arg-type]
    assert (anew.seats, anew.warnings, anew.refused) == (first.seats, first.warnings, first.refused)
    if not first.refused:
        assert again.seats == first.seats
        assert not again.moved


@settings(max_examples=300)
@given(demands(), fleets(), fleets())
def test_nobody_moves_when_a_host_or_a_server_comes(servers: Servers, fleet: Fleet, more: Fleet) -> None:
    first = place(servers[:-1], fleet)
    new_hosts = tuple(HostCapacity(f"{n}{host.name}", host.gpus, host.links) for n, host in enumerate(more))
    grown = place(servers[:-1], fleet + new_hosts, keep=first.seats)
    if not first.refused:
        assert grown.seats == first.seats
    with_new = place(servers, fleet, keep=first.seats)
    if not first.refused and not with_new.refused and brute_force(servers, fleet, where(first)) == 0:
        assert {replica: where(with_new)[replica] for replica in where(first)} == where(first)


@settings(max_examples=400)
@given(demands(), fleets())
def test_every_change_that_is_named_is_feasible(servers: Servers, fleet: Fleet) -> None:
    """Changes of the inventory and of replicas are done again as the text says, and brute force finds a way."""
    refused = place(servers, fleet).refused
    if refused is None or sum(demand.replicas for demand in servers) > 4:
        return
    assert len(refused.changes) <= 3
    for change in refused.changes:
        if change.text.startswith("one more host like "):
            like = next(host for host in fleet if host.name == change.text.removeprefix("one more host like "))
            free = tuple(type(gpu)(gpu.index, gpu.name, gpu.memory_bytes, gpu.memory_bytes) for gpu in like.gpus)
            new = HostCapacity("new", free, like.links, like.memory_bytes, like.cores, like.labels, like.roles)
            assert brute_force(servers, (*fleet, new), {}) is not None
