"""Thousands of small instances: a way is found whenever brute force finds one, and every rule holds."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from largeforge.placing import Demand, HostCapacity, place
from tests.placing.instances import (
    brute_force,
    complaints,
    could_stay,
    demands,
    fleets,
    random_fleet,
    random_servers,
    where,
)

Servers, Fleet = tuple[Demand, ...], tuple[HostCapacity, ...]


@pytest.mark.parametrize("seeds", [range(0, 500), range(500, 1000)])
def test_a_way_is_found_whenever_there_is_one_and_as_few_as_possible_move(seeds: range) -> None:
    placed = 0
    for seed in seeds:
        pick = random.Random(seed).choice
        fleet = random_fleet(pick)
        seats = place(random_servers(pick), fleet).seats
        for fleet_now in (fleet, random_fleet(pick)):  # other servers on the same hosts, then on others
            servers = random_servers(pick)
            placing = place(servers, fleet_now, keep=seats)
            there = could_stay(servers, fleet_now, seats)
            fewest = brute_force(servers, fleet_now, there)
            assert (placing.refused is None) == (fewest is not None), seed
            if placing.refused:
                assert placing.refused.is_proven
                assert placing.refused.reasons
                continue
            placed += 1
            assert complaints(servers, fleet_now, placing.seats) == [], seed
            places = where(placing)
            assert sum(places[replica] != was for replica, was in there.items()) == fewest, seed
    assert placed > len(seeds) / 2  # not all of them are hopeless


@settings(max_examples=200)
@given(demands(), fleets())
def test_a_way_is_found_whenever_there_is_one(servers: Servers, fleet: Fleet) -> None:
    placing = place(servers, fleet)
    assert (placing.refused is None) == (brute_force(servers, fleet, {}) is not None)
    if not placing.refused:
        assert complaints(servers, fleet, placing.seats) == []


@settings(max_examples=100)
@given(demands(), fleets(), st.randoms(use_true_random=False))
def test_order_does_not_matter(servers: Servers, fleet: Fleet, draw: random.Random) -> None:
    def shuffled(items: tuple[object, ...]) -> tuple[object, ...]:
        return tuple(draw.sample(items, len(items)))

    first = place(servers, fleet)
    anew = place(shuffled(servers), shuffled(fleet))  # type: ignore[arg-type]
    assert (anew.seats, anew.warnings, anew.refused) == (first.seats, first.warnings, first.refused)
    if not first.refused:
        again = place(shuffled(servers), shuffled(fleet), keep=shuffled(first.seats))  # type: ignore[arg-type]
        assert again.seats == first.seats
        assert not again.moved


@settings(max_examples=100)
@given(demands(), fleets(), fleets())
def test_nobody_moves_when_a_host_or_a_server_comes(servers: Servers, fleet: Fleet, more: Fleet) -> None:
    first = place(servers[:-1], fleet)
    if first.refused:
        return
    grown = place(servers[:-1], fleet + tuple(replace(host, name=f"0{host.name}") for host in more), keep=first.seats)
    assert grown.seats == first.seats
    with_new = place(servers, fleet, keep=first.seats)
    if brute_force(servers, fleet, where(first)) == 0:
        assert {replica: where(with_new)[replica] for replica in where(first)} == where(first)


def test_every_change_of_the_inventory_that_is_named_is_enough() -> None:
    """The change is made again as its text says, and brute force finds a way."""
    tried = 0
    for seed in range(300):
        pick = random.Random(seed).choice
        servers, fleet = random_servers(pick), random_fleet(pick)
        refused = place(servers, fleet).refused
        if refused is None or sum(demand.replicas for demand in servers) > 4:
            continue
        assert 0 < len(refused.changes) <= 3
        for change in refused.changes:
            if change.text.startswith("one more host like "):
                like = next(host for host in fleet if host.name == change.text.removeprefix("one more host like "))
                gpus = tuple(replace(gpu, free_bytes=gpu.memory_bytes) for gpu in like.gpus)
                assert brute_force(servers, (*fleet, replace(like, name="new", gpus=gpus)), {}) is not None, seed
                tried += 1
    assert tried > 10
