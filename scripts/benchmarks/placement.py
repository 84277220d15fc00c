"""How long it takes to place servers onto fleets of several sizes, on paper: nothing is started.

A third of the servers want two GPUs or four, replicas go to different hosts, hosts have eight GPUs of 80 GiB, or four
of 24 GiB, of which other processes have taken a little. Then the same again with what a day brings: one more server, a
host that is gone, a server that fits nowhere.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from typing import TYPE_CHECKING

from largeforge.estimate.memory import GIB
from largeforge.placing import Demand, Gpu, HostCapacity, Placing, place
from scripts.tables import columns

if TYPE_CHECKING:
    from collections.abc import Callable

SUMMARY = "how long it takes to place servers onto 3, 100 and 1000 hosts"

SIZES = ((8, 3), (50, 100), (1000, 1000), (3000, 1000))
"""Experts and hosts."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    sizes = " ".join(f"{experts}x{hosts}" for experts, hosts in SIZES)
    parser.add_argument("--sizes", nargs="+", default=sizes.split(), help=f"experts x hosts (default: {sizes})")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of which the median counts (%(default)s)")


def run(options: argparse.Namespace) -> int:
    """Print a table of seconds; fail where something that fits was refused."""
    rows, code = [["experts", "hosts", "servers", "afresh", "one more", "host gone", "moved", "refused"]], 0
    for size in options.sizes:
        experts, count = map(int, size.split("x"))
        hosts, servers = _hosts(count), _servers(experts)
        first, afresh = _timed(lambda: place(servers, hosts), options.rounds)  # noqa: B023
        more = [*servers, Demand("new", needed_bytes=10 * GIB_BYTES, wanted_bytes=20 * GIB_BYTES)]
        second, one_more = _timed(lambda: place(more, hosts, keep=first.seats), options.rounds)  # noqa: B023
        gone = first.seats[0].host if first.seats else ""
        left = [host for host in hosts if host.name != gone]
        third, lost = _timed(lambda: place(servers, left, keep=first.seats), options.rounds)  # noqa: B023
        big = [*servers, Demand("big", needed_bytes=200 * GIB_BYTES)]
        _, refused = _timed(lambda: place(big, hosts, alternatives=_alternatives), 1)  # noqa: B023
        found = (first, second, third)
        code |= any(placing.refused is not None for placing in found)
        seconds = [f"{taken:.2f}" for taken in (afresh, one_more, lost)]
        moved = f"{len(second.moved)} / {len(third.moved)}"
        rows.append([f"{experts}", f"{count}", f"{len(first.seats)}", *seconds, moved, f"{refused:.2f}"])
    print("Seconds; `moved`: servers that changed their place for one more, and for a host that is gone\n")
    print(columns(rows, left=0))
    return code


GIB_BYTES = int(GIB)


def _hosts(count: int) -> list[HostCapacity]:
    draw = random.Random(0)
    hosts = []
    for number in range(count):
        name, size, gpus = ("H100", 80, 8) if number % 4 else ("RTX 4090", 24, 4)
        taken = [draw.randrange(0, 500) * 2**20 for _ in range(gpus)]
        found = tuple(Gpu(n, name, size * GIB_BYTES, size * GIB_BYTES - taken[n]) for n in range(gpus))
        links = (tuple(range(gpus)),) if name == "H100" else ()
        hosts.append(HostCapacity(f"gpu{number:04}", found, links, labels={"zone": ("a", "b")[number % 2]}))
    return hosts


def _servers(count: int) -> list[Demand]:
    draw = random.Random(1)
    servers = []
    for number in range(count):
        size = draw.choice([1, 1, 1, 1, 2, 4])
        needed = draw.randrange(4, 22) if size == 1 else draw.randrange(20, 60)
        wanted = (22 if size == 1 else 72) * GIB_BYTES
        name, replicas = f"expert{number:04}", draw.choice([1, 1, 2, 3])
        servers.append(Demand(name, (), replicas, "cuda", size, needed * GIB_BYTES, wanted, spread="hosts"))
    return servers


def _alternatives(demand: Demand) -> list[tuple[str, Demand]]:
    """Return a demand on more GPUs."""
    sizes = (2, 4, 8)
    forms = [
        Demand(demand.name, tensor_parallel_size=size, needed_bytes=demand.needed_bytes // size, spread=demand.spread)
        for size in sizes
    ]
    return [(f"serving.tensor_parallel_size={size}", form) for size, form in zip(sizes, forms, strict=True)]


def _timed(call: Callable[[], Placing], rounds: int) -> tuple[Placing, float]:
    """Return what a call returns and the median of its seconds."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        found = call()
        taken.append(time.perf_counter() - start)
    return found, statistics.median(taken)
