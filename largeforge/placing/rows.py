"""What is on each GPU and in the memory of each host, for a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.placing.capacity import CONTEXT, usable_bytes
from largeforge.placing.model import Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from largeforge.placing.model import HostCapacity, Seat


def rows(seats: Sequence[Seat], hosts: Sequence[HostCapacity]) -> tuple[Row, ...]:
    """Return a row for each GPU, and one for the memory of each host that has servers on its CPU or no GPU."""
    on_gpu: dict[tuple[str, int], list[Seat]] = {}
    on_cpu: dict[str, list[Seat]] = {}
    for seat in seats:
        for index in seat.gpus:
            on_gpu.setdefault((seat.host, index), []).append(seat)
        if not seat.gpus:
            on_cpu.setdefault(seat.host, []).append(seat)
    found = []
    for host in sorted(hosts, key=lambda host: host.name):
        if host.name in on_cpu or not host.gpus:
            memory, there = host.memory_bytes, on_cpu.get(host.name, [])
            given = sum(seat.bytes_each for seat in there)
            found.append(Row(host.name, "memory", "", memory, memory, given, _named(there)))
        for gpu in sorted(host.gpus, key=lambda gpu: gpu.index):
            there = on_gpu.get((host.name, gpu.index), [])
            given = sum(seat.bytes_each + CONTEXT for seat in there)
            unit, usable = f"GPU {gpu.index}", usable_bytes(gpu)
            found.append(Row(host.name, unit, gpu.name, gpu.memory_bytes, usable, given, _named(there)))
    return tuple(found)


def _named(seats: Sequence[Seat]) -> tuple[tuple[str, int], ...]:
    return tuple((seat.title, seat.bytes_each) for seat in sorted(seats, key=lambda seat: (seat.server, seat.replica)))
