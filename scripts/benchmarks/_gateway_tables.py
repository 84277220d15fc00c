"""The tables of `gateway.py`: medians over rounds, and ratios within each round."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from scripts.benchmarks import _gateway_systems as systems
from scripts.tables import columns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Row = dict[str, Any]

GROUPS = {
    "short": "Short requests, closed loop, one core for the gateway",
    "long": "Requests of 128 KiB (about 32 000 tokens), closed loop, one core for the gateway",
    "short-open": "Short requests at a fixed rate",
    "long-open": "Requests of 128 KiB at a fixed rate",
    "stream": "Streams of 200 chunks, one every 10 ms; time from sending a chunk to its arrival",
    "shared": "Short requests, closed loop, all cores shared by the gateway, the load and the upstream",
    "memory": "Memory (RSS) over short requests and 640 streams on 64 connections",
}
_RUST = (systems.SMG, systems.VLLM_ROUTER)


def report(rows: Sequence[Row], memory: Sequence[Row]) -> str:
    """Return all tables."""
    parts = []
    for group, title in GROUPS.items():
        chosen = [row for row in rows if row["group"] == group]
        if chosen:
            parts.append(f"{title}\n{_table(group, chosen)}")
    if memory:
        parts.append(f"{GROUPS['memory']}\n{_memory_table(memory)}")
    if disturbed := _disturbed(rows):
        parts.append(disturbed)
    return "\n\n".join(parts)


def _table(group: str, rows: Sequence[Row]) -> str:
    make = _stream_cells if group == "stream" else _request_cells
    head = _STREAM_HEAD if group == "stream" else _REQUEST_HEAD
    lines: list[tuple[str, ...]] = [head]
    for connections in sorted({row["connections"] for row in rows}):
        here = [row for row in rows if row["connections"] == connections]
        for system in dict.fromkeys(row["system"] for row in sorted(here, key=_place)):
            lines.append(make(f"{connections}  {system}", system, here))
    return columns(lines)


_MIDDLE = ("× litellm", "× Rust", "p50 ms", "added p50", "p95", "p99")
_REQUEST_HEAD = ("connections, system", "requests/s", *_MIDDLE, "CPU µs/request", "MiB")
_STREAM_HEAD = ("connections, system", "chunks/s", *_MIDDLE, "CPU µs/chunk", "MiB")


def _request_cells(name: str, system: str, rows: Sequence[Row]) -> tuple[str, ...]:
    return _cells(name, system, rows, "whole_us", "requests_per_s", "cpu_us_per_request")


def _stream_cells(name: str, system: str, rows: Sequence[Row]) -> tuple[str, ...]:
    return _cells(name, system, rows, "event_us", "events_per_s", "cpu_us_per_event")


def _cells(name: str, system: str, rows: Sequence[Row], times: str, speed: str, cpu: str) -> tuple[str, ...]:
    own = _of(rows, system)
    rate = statistics.median(row["rate"] for row in own)
    if rate:
        name = f"{name}, {rate:.0f}/s"
    added = [_added(rows, system, lambda row, p=p: row[times].get(p, 0.0)) for p in ("p50", "p95", "p99")]  # type: ignore[misc]
    return (
        name,
        f"{_median(own, speed):.0f}",
        _ratio(rows, system, speed, lambda label: label.startswith(systems.LITELLM)),
        _ratio(rows, system, speed, lambda label: label.startswith(_RUST)),
        f"{statistics.median(row[times].get('p50', 0.0) for row in own) / 1000:.3f}",
        *added,
        f"{_median(own, cpu):.0f}" if system != systems.UPSTREAM else "",
        f"{max(row['memory_mib']['now'] for row in own):.0f}" if system != systems.UPSTREAM else "",
    )


def _place(row: Row) -> int:
    names = list(systems.SYSTEMS)
    return next((place for place, name in enumerate(names) if row["system"] == name), len(names))


def _of(rows: Sequence[Row], system: str) -> list[Row]:
    return [row for row in rows if row["system"] == system]


def _median(rows: Sequence[Row], key: str) -> float:
    return float(statistics.median(row[key] for row in rows))


def _ratio(rows: Sequence[Row], system: str, key: str, is_base: Callable[[str], bool]) -> str:
    """Return the median over rounds of a figure by that of the best of others in the same round."""
    if is_base(system) or system == systems.UPSTREAM or any(row["rate"] for row in rows):
        return ""  # at a fixed rate all are as fast
    found = []
    for row in _of(rows, system):
        if bases := _bases(rows, row["round"], is_base):
            found.append(row[key] / max(base[key] for base in bases))
    return f"{statistics.median(found):.2f}" if found else ""


def _bases(rows: Sequence[Row], number: int, is_base: Callable[[str], bool]) -> list[Row]:
    """Return the rows of a base in a round, or in the last one before it in which it was measured."""
    there = [row for row in rows if is_base(row["system"]) and row["round"] <= number and row[_speed(row)]]
    last = max((row["round"] for row in there), default=0)
    return [row for row in there if row["round"] == last]


def _speed(row: Row) -> str:
    return "events_per_s" if row["group"] == "stream" else "requests_per_s"


def _added(rows: Sequence[Row], system: str, of: Callable[[Row], float]) -> str:
    """Return the median over rounds of milliseconds above the upstream's."""
    if system == systems.UPSTREAM:
        return ""
    found = []
    for row in _of(rows, system):
        if bases := _bases(rows, row["round"], lambda label: label == systems.UPSTREAM):
            found.append(of(row) - of(bases[0]))
    return f"{statistics.median(found) / 1000:.3f}" if found else ""


def _memory_table(memory: Sequence[Row]) -> str:
    lines: list[tuple[str, ...]] = [
        ("system", "requests", "after 10 %", "50 %", "100 %", "peak MiB", "KiB/1000 requests")
    ]
    for row in memory:
        now = [step["now"] for step in row["steps"]]
        growth = 1024 * (now[-1] - now[4]) / (row["requests"] / 2000)
        figures = (*(f"{now[place]:.1f}" for place in (0, 4, 9)), f"{row['steps'][-1]['peak']:.1f}", f"{growth:.2f}")
        lines.append((row["system"], str(row["requests"]), *figures))
    return f"{columns(lines)}\n(the last column: over the second half)"


def _disturbed(rows: Sequence[Row]) -> str:
    """Return a line on rounds that differ much, which other work on the machine makes."""
    spreads = []
    for key in {(row["group"], row["connections"], row["system"]) for row in rows}:
        same = [row[_speed(row)] for row in rows if (row["group"], row["connections"], row["system"]) == key]
        if len(same) > 1 and min(same):
            spreads.append(max(same) / min(same))
    if not spreads:
        return ""
    return f"between rounds the speed of a cell differs by a factor of {statistics.median(spreads):.2f} (median)"
