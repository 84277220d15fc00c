"""What is measured in one turn of one system: a kind of request, a number of connections, closed or open loop."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scripts.benchmarks import _gateway_servers as servers
from scripts.benchmarks import _gateway_systems as systems

if TYPE_CHECKING:
    from pathlib import Path

    from scripts.benchmarks._gateway_servers import Cores, Server

CHUNKS = 200
CHUNK_INTERVAL_MS = 10.0
CONNECTIONS = (1, 16, 64, 256)
OPEN_CONNECTIONS = 16
WARM_S = 0.5
MOST_SHARE = 0.5
"""An open loop asks a system for no more than this share of what it can do, or time would count the queue only."""


@dataclass(frozen=True)
class Cell:
    """One kind of turn."""

    kind: str
    connections: int
    rate: float = 0.0
    """Requests a second of an open loop; 0 is a closed one."""
    is_shared: bool = False
    """Whether all processes share all cores."""

    @property
    def group(self) -> str:
        """The table that it stands in."""
        if self.is_shared:
            return "shared"
        return f"{self.kind}-open" if self.rate else self.kind


@dataclass
class Subject:
    """A system that runs, as it is asked."""

    system: systems.System
    workers: int
    port: int
    cores: Cores
    server: Server | None
    """None for the upstream itself."""

    def label(self, *, with_workers: bool) -> str:
        """Its name in tables."""
        if not with_workers or self.server is None:
            return self.system.name
        threads = self.system.name in (systems.SMG, systems.VLLM_ROUTER)
        noun = "thread" if threads else "worker"
        return f"{self.system.name}, {self.workers} {noun}{'s' if self.workers > 1 else ''}"


def cells(rate: float, long_rate: float) -> list[Cell]:
    """Return the turns with cores apart, in their order."""
    closed = [Cell(kind, number) for kind in ("short", "long") for number in CONNECTIONS]
    opened = [Cell("short", OPEN_CONNECTIONS, rate), Cell("long", OPEN_CONNECTIONS, long_rate)]
    return [*closed, *opened, *(Cell("stream", number) for number in CONNECTIONS[1:])]


def shared_cells() -> list[Cell]:
    """Return the turns in which all share all cores."""
    return [Cell("short", number, is_shared=True) for number in (16, 64)]


def measure(subject: Subject, cell: Cell, *, load: Path, folder: Path, seconds: float, most: float) -> dict[str, Any]:
    """Return the figures of one turn; `most` is what the system does in a closed loop, 0 when that is not known.

    Raises BenchmarkFailed when an answer was wrong.
    """
    path = folder / f"request-{cell.kind}-{subject.system.model}"
    if not path.exists():
        path.write_bytes(systems.request(subject.system.model, cell.kind))
    words: dict[str, Any] = {"connections": cell.connections, "request": path, "seconds": seconds, "warm": WARM_S}
    if cell.kind == "stream":
        words |= {"expect": "[DONE]", "events": CHUNKS, "ramp": CHUNK_INTERVAL_MS / 1000}
    else:
        words |= {"expect": systems.ANSWER}
    rate = min(cell.rate, MOST_SHARE * most) if most else cell.rate
    if rate:
        words["rate"] = f"{rate:.2f}"
    else:
        words["least"] = cell.connections if cell.kind != "stream" else 0
    if subject.server is not None:
        subject.server.go_on()
    busy, used, began = servers.machine_busy_s(), _cpu_s(subject), time.monotonic()
    try:
        found = servers.ask(load, port=subject.port, cores=subject.cores.rest, **words)
    finally:
        took, used = time.monotonic() - began, _cpu_s(subject) - used
        busy = servers.machine_busy_s() - busy
        memory = subject.server.memory_mib() if subject.server is not None else {}
        if subject.server is not None:
            subject.server.stand_still()
    return {
        "requests_per_s": found["measured"] / found["seconds"],
        "whole_us": found["whole_us"],
        "first_byte_us": found["first_byte_us"],
        "event_us": found["event_us"],
        "events_per_s": found["event_us"]["count"] / found["seconds"],
        "cpu_us_per_request": 1e6 * used / found["answered"],
        "cpu_us_per_event": 1e6 * used / found["events"] if found["events"] else 0.0,
        "cpu_cores": used / took,
        "machine_busy_cores": busy / took,
        "rate": rate,
        "late": found["late"],
        "took_s": took,
        "memory_mib": memory,
    }


def _cpu_s(subject: Subject) -> float:
    return subject.server.cpu_s() if subject.server is not None else 0.0


def memory_step(subject: Subject, requests: int, *, load: Path, folder: Path) -> dict[str, float]:
    """Send short requests and a few streams over 64 connections; return the memory that is held after them."""
    assert subject.server is not None
    for kind, count, words in (
        ("short", requests, {"expect": systems.ANSWER}),
        ("stream", 64, {"expect": "[DONE]", "events": CHUNKS}),
    ):
        path = folder / f"request-{kind}-{subject.system.model}"
        path.write_bytes(systems.request(subject.system.model, kind))
        subject.server.go_on()
        asked: dict[str, Any] = {"connections": 64, "request": path, "requests": count, **words}
        servers.ask(load, port=subject.port, cores=subject.cores.rest, **asked)
        subject.server.stand_still()
    return subject.server.memory_mib()
