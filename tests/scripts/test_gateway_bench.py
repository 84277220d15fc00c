"""`scripts/bench gateway`: the load finds wrong answers, and its tables compare what belongs together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.benchmarks import _gateway_servers as servers
from scripts.benchmarks import _gateway_systems as systems
from scripts.benchmarks import _gateway_tables as tables
from scripts.benchmarks._gateway_servers import BenchmarkFailed, Server
from tests.ports import free_port

CORES = tuple(os.sched_getaffinity(0))


@pytest.fixture
def upstream(tmp_path: Path, socket_enabled: None) -> Iterator[Server]:
    port = free_port()
    argv = [str(servers.compiled("upstream", folder=tmp_path)), str(port), "20", "1000"]
    with Server("upstream", argv, port=port, cores=CORES, folder=tmp_path) as server:
        server.wait(systems.body("general", "short"), systems.ANSWER.encode())
        yield server


def test_the_load_checks_and_counts_every_answer(upstream: Server, tmp_path: Path) -> None:
    load = servers.compiled("load", folder=tmp_path)
    for kind in ("short", "long", "stream"):
        (tmp_path / kind).write_bytes(systems.request("general", kind))

    def ask(kind: str, **words: Any) -> dict[str, Any]:
        common = {"connections": 4, "requests": 40, "request": tmp_path / kind}
        return servers.ask(load, port=upstream.port, cores=CORES, **{**common, **words})

    for kind in ("short", "long"):
        found = ask(kind, expect=systems.ANSWER)
        assert (found["answered"], found["whole_us"]["count"], found["reconnects"]) == (40, 40, 0)
        assert 0 < found["whole_us"]["p50"] <= found["whole_us"]["p99"] <= found["whole_us"]["max"]
    assert ask("short", expect=systems.ANSWER, rate=2000)["answered"] == 40
    streamed = ask("stream", expect="[DONE]", events=20)
    assert (streamed["answered"], streamed["events"], streamed["event_us"]["count"]) == (40, 800, 800)
    assert upstream.cpu_s() >= 0 and upstream.memory_mib()["now"] > 0
    with pytest.raises(BenchmarkFailed, match="a wrong answer"):
        ask("short", expect="something else")
    with pytest.raises(BenchmarkFailed, match="with 20 events"):
        ask("stream", expect="[DONE]", events=21)


def row(system: str, speed: float, p50_us: float, number: int = 0) -> dict[str, Any]:
    times = {"p50": p50_us, "p95": 2 * p50_us, "p99": 3 * p50_us}
    return {
        "system": system, "round": number, "group": "short", "connections": 16, "rate": 0.0, "requests_per_s": speed,
        "whole_us": times, "cpu_us_per_request": 50.0, "memory_mib": {"now": 40.0},
    }  # fmt: skip


def test_ratios_are_within_a_round_and_added_is_above_the_upstream() -> None:
    rows = [
        row("upstream", 100_000, 100),
        row("ours", 5000, 600),
        row("litellm", 100, 9000),
        row("smg", 8000, 400),
        row("vllm-router", 10_000, 400),
        row("upstream", 50_000, 200, number=1),
        row("ours", 2500, 700, number=1),
        row("smg", 4000, 500, number=1),
        row("vllm-router", 5000, 500, number=1),
    ]
    line = next(line for line in tables.report(rows, []).splitlines() if line.startswith("16  ours"))
    # 5000 and 2500 by LiteLLM's 100 (not repeated in round 1); half of the faster router; 500 µs above the upstream
    assert line.split() == ["16", "ours", "3750", "37.50", "0.50", "0.650", "0.500", "1.000", "1.500", "50", "40"]


def test_memory_growth_is_that_of_the_second_half() -> None:
    steps = [{"now": 50.0 + place, "peak": 70.0} for place in range(10)]
    line = tables.report([], [{"system": "ours", "requests": 10_000, "steps": steps}]).splitlines()[2]
    assert line.split() == ["ours", "10000", "50.0", "54.0", "59.0", "70.0", "1024.00"]
