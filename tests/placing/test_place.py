"""Where servers go, what they are given, and what is said when they do not fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from largeforge.estimate.serving import CONTEXT_BYTES
from largeforge.placing import Demand, Gpu, HostCapacity, place
from tests.placing.instances import GIB, complaints, host, server, where


def test_each_has_a_gpu_of_its_own_while_there_are_enough() -> None:
    servers = [server(name, 10, 70) for name in "abc"]
    placing = place(servers, [host("node", 80, 80, 80, 80)])
    assert sorted(seat.gpus for seat in placing.seats) == [(0,), (1,), (2,)]
    assert {seat.bytes_each for seat in placing.seats} == {70 * GIB}
    assert placing.seats[0].share == pytest.approx(70 / 80, abs=1e-6)
    assert sorted(seat.slot for seat in placing.seats) == [0, 1, 2]


def test_servers_that_share_a_gpu_come_equally_near_to_what_they_want() -> None:
    small, large = server("small", 10, 30), server("large", 20, 80)
    one, other = place([small, large], [host("node", 80)]).seats
    left = int(80 * GIB * 0.98) - 2 * int(CONTEXT_BYTES) - 30 * GIB
    assert (one.server, one.bytes_each) == ("large", 20 * GIB + left * 60 // 80)
    assert (other.server, other.bytes_each) == ("small", 10 * GIB + left * 20 // 80)


def test_tensor_parallel_takes_linked_gpus() -> None:
    there = host("node", 80, 80, 80, 80, links=((1, 3),))
    placing = place([server("pair", tensor_parallel_size=2)], [there])
    assert placing.seats[0].gpus == (1, 3)
    assert not placing.warnings
    unlinked = place([server("pair", tensor_parallel_size=2)], [host("node", 80, 80)])
    assert unlinked.warnings == ("pair#0: its 2 GPUs on node are not linked",)


def test_replicas_go_to_different_hosts_or_a_warning_says_not() -> None:
    hosts = [host("a", 80, 80), host("b", 80, 80)]
    assert {seat.host for seat in place([server("general", replicas=2)], hosts).seats} == {"a", "b"}
    crowded = place([server("general", replicas=3)], hosts)
    assert crowded.warnings == ("general: 3 replicas are on 2 hosts; more than one is on a",)


def test_who_is_there_stays_and_keeps_its_slot() -> None:
    hosts = [host("a", 80, 80), host("b", 80, 80)]
    before = place([server("x", 30, 70), server("y", 20, 70)], hosts)
    kept = [replace(seat, host="b", slot=7) if seat.server == "y" else seat for seat in before.seats]
    after = place([server("x", 30, 70), server("y", 20, 70), server("z", 40, 70)], [host("0", 80), *hosts], keep=kept)
    assert not after.moved
    assert {seat.server: (seat.host, seat.gpus, seat.slot) for seat in after.seats}["y"] == ("b", kept[1].gpus, 7)


def test_only_who_is_in_the_way_moves() -> None:
    hosts = [host("a", 80, 80), host("b", 20)]
    seats = place([server("x", 15), server("y", 15)], hosts[:1]).seats
    kept = [replace(seat, gpus=(number,)) for number, seat in enumerate(seats)]
    pair = server("pair", 70, tensor_parallel_size=2)
    assert place([pair], hosts).refused is None
    refused = place([pair, server("x", 15), server("y", 15)], hosts, keep=kept).refused
    assert refused is not None  # b has room for one of them only
    placing = place([pair, server("x", 15)], hosts, keep=kept)
    assert [(was.host, now.host) for was, now in placing.moved] == [("a", "b")]


def test_servers_on_a_cpu_need_memory_and_a_core_each() -> None:
    hosts = [HostCapacity("box", memory_bytes=64 * GIB, cores=2)]
    servers = [server(name, 8, device="cpu") for name in "ab"]
    placing = place(servers, hosts)
    assert [(seat.gpus, seat.bytes_each) for seat in placing.seats] == [((), 8 * GIB)] * 2
    refused = place([*servers, server("c", 8, device="cpu")], hosts).refused
    assert refused is not None
    assert "0 cores are left" in str(refused)


def test_rows_show_what_is_given_of_what_is_there() -> None:
    hosts = [host("node", 80, 60), HostCapacity("box", memory_bytes=16 * GIB, cores=1)]
    rows = place([server("x", 10, 50), server("y", 8, device="cpu")], hosts).rows()
    assert [(row.host, row.unit, row.servers) for row in rows] == [
        ("box", "memory", (("y#0", 8 * GIB),)),
        ("node", "GPU 0", ()),
        ("node", "GPU 1", (("x#0", 50 * GIB),)),
    ]
    assert rows[2].given_bytes == 50 * GIB + int(CONTEXT_BYTES)
    assert (rows[2].memory_bytes, rows[2].usable_bytes) == (80 * GIB, int(60 * GIB * 0.98))


REFUSED: dict[str, tuple[list[Demand], list[HostCapacity], str]] = {
    "too big": (
        [server("huge", 90)],
        [host("node", 80, 60)],
        "huge does not fit: it needs 90.3 GiB (0.3 GiB of it for the CUDA context) of a GPU, and "
        "the largest GPU has 78.4 GiB.",
    ),
    "label": (
        [server("eu", labels={"zone": "eu"})],
        [host("node", 80, labels={"zone": "us"})],
        "eu does not fit: no host has zone = eu; there is: zone = us.",
    ),
    "no GPU": (
        [server("x")],
        [HostCapacity("box", memory_bytes=64 * GIB, cores=4)],
        "x does not fit: it needs a GPU, and no host has one.",
    ),
    "too few equal GPUs": (
        [server("wide", tensor_parallel_size=4)],
        [host("a", 80, 80), host("b", 80, 80)],
        "wide does not fit: it needs 4 equal GPUs of one host with 10.3 GiB (0.3 GiB of it for the CUDA context) on "
        "each, and no host has more than 2.",
    ),
    "spread": (
        [server("general", replicas=3, spread="hosts!")],
        [host("a", 80, 80), host("b", 80)],
        "general: 1 of its 3 replicas does not fit: 3 replicas must be on different hosts (spread), and "
        "2 hosts can have one.",
    ),
    "fragmented": (
        [server("x", 50), server("y", 50), server("z", 40)],
        [host("a", 80, 80)],
        "z does not fit: it needs 40.3 GiB on a GPU, and the memory is fragmented: 56.1 GiB are left beside the other "
        "servers, but at most 28.0 GiB on one GPU.",
    ),
    "role": (
        [server("x")],
        [host("a", 80, roles=("train",))],
        "x does not fit: no host takes servers (roles: [serve]).",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_says_why(name: str) -> None:
    servers, hosts, reason = REFUSED[name]
    placing = place(servers, hosts)
    assert placing.refused is not None
    assert placing.refused.reasons == (reason,)
    assert placing.refused.is_proven
    assert placing.seats == ()


def test_the_nearest_changes_come_first_and_each_is_enough() -> None:
    hosts = [host("a", 80, 80, labels={"zone": "eu"}), host("b", 80, labels={"zone": "us"})]
    huge = server("huge", 120, labels={"zone": "eu"})

    def alternatives(demand: Demand) -> Iterator[tuple[str, Demand]]:
        yield "serving.max_model_len=8192", replace(demand, needed_bytes=100 * GIB)
        yield "serving.tensor_parallel_size=2", replace(demand, needed_bytes=61 * GIB, tensor_parallel_size=2)

    refused = place([huge], hosts, alternatives=alternatives).refused
    assert refused is not None
    assert [change.override for change in refused.changes] == ["serving.tensor_parallel_size=2"]
    changed = dict(alternatives(huge))["serving.tensor_parallel_size=2"]
    assert complaints([changed], hosts, place([changed], hosts).seats) == []


def test_changes_of_spread_replicas_and_inventory() -> None:
    refused = place([server("general", replicas=3, spread="hosts!")], [host("a", 80, 80), host("b", 80)]).refused
    assert refused is not None
    assert [change.text for change in refused.changes] == [
        "let replicas of general share a host where they have to (spread: hosts)",
        "general with 2 replicas instead of 3",
        "one more host like b",
    ]
    full = place([server(name, 70) for name in "abcd"], [host("node", 80)]).refused
    assert full is not None
    assert [change.text for change in full.changes] == ["3 more hosts like node"]


def test_a_host_that_is_gone_moves_only_its_servers() -> None:
    hosts = [host(name, 80, 80) for name in "abc"]
    servers = [server(name, 30, 60) for name in ("p", "q", "r", "s")]
    before = place(servers, hosts)
    gone = before.seats[0].host
    after = place(servers, [there for there in hosts if there.name != gone], keep=before.seats)
    stayed = {key: value for key, value in where(before).items() if value[0] != gone}
    assert {key: where(after)[key] for key in stayed} == stayed
    assert {was.host for was, _ in after.moved} == {gone}


def test_input_that_makes_no_sense_is_named() -> None:
    with pytest.raises(ValueError, match="servers have the same name: x"):
        place([server("x"), server("x")], [])
    twice = HostCapacity("node", (Gpu(0, "A", GIB, GIB), Gpu(0, "A", GIB, GIB)))
    with pytest.raises(ValueError, match="node: two GPUs have the same index"):
        place([], [twice])
