"""Read the CPU side of this machine: cores and memory that a process may use, name and peak rate."""

from __future__ import annotations

import os
import time
from functools import cache
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
STAT = Path("/proc/stat")
SAMPLE_S = 0.1
CLOCK_GHZ = 2.5
"""Clock of a core under full vector load; inside a virtual machine the kernel knows none that holds."""


def cores() -> int:
    """Return how many cores this process may keep busy: its affinity, and the CPU quota of its cgroup."""
    allowed = len(os.sched_getaffinity(0))
    quotas = [text.split() for text in _limits("cpu.max")]
    return min([allowed, *(max(1, -(-int(quota) // int(period))) for quota, period in quotas)])


def busy_cores() -> float:
    """Return how many of the cores that this process may use are busy now, on average over a tenth of a second."""
    before = _core_times()
    time.sleep(SAMPLE_S)
    pairs = [(before[core], after) for core, after in _core_times().items() if core in before]
    spent = [(sum(after) - sum(old), after[3] + after[4] - old[3] - old[4]) for old, after in pairs]
    return sum(1 - idle / total for total, idle in spent if total > 0)


def _core_times() -> dict[int, list[int]]:
    """Return, for each core that this process may use, its time in user, nice, system, idle, iowait, ... (proc(5))."""
    rows = [line.split() for line in _read(STAT).splitlines() if line.startswith("cpu") and line[3:4].isdigit()]
    times = {int(row[0][3:]): [int(part) for part in row[1:]] for row in rows}
    return {core: spent for core, spent in times.items() if core in os.sched_getaffinity(0)}


def memory_gib() -> float:
    """Return the memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def memory_limit_gib() -> float:
    """Return how much memory this process may use: that of the machine, or the limit of its cgroup."""
    return min([memory_gib(), *(int(text) / 2**30 for text in _limits("memory.max"))])


def free_memory_gib() -> float:
    """Return how much memory programs can still take without swapping; 0 when the kernel does not say."""
    return _meminfo("MemAvailable")


@cache
def name() -> str:
    """Return the name of the CPU, or of its architecture where the kernel gives none."""
    return _cpuinfo("model name") or os.uname().machine


def gflops_per_core() -> float:
    """Return the fp32 GFLOP/s of one core at its best: its clock times what its widest vectors do in a cycle.

    Two units with fused multiply-add make 64 operations a cycle with AVX-512, 32 with AVX2, 16 with
    four lanes (NEON, SSE). Source: instruction tables at https://www.agner.org/optimize/.
    """
    per_cycle = 64 if has_avx512() else 32 if {"avx2", "fma"} <= _flags() else 16
    return CLOCK_GHZ * per_cycle


def has_avx512() -> bool:
    """Whether the CPU has vectors of 512 bits, which some of vLLM's kernels are made for only."""
    return "avx512f" in _flags()


def _flags() -> set[str]:
    return set(_cpuinfo("flags").split())


def _limits(name: str) -> list[str]:
    """Return what a file says in the cgroup (version 2) of this process and in those above, where it sets a limit."""
    own = next((line[3:] for line in _read(OWN_CGROUP).splitlines() if line.startswith("0::")), "/")
    folder = CGROUP / own.strip("/")
    found = [_read(place / name) for place in (folder, *folder.parents) if place.is_relative_to(CGROUP)]
    return [text for text in found if text and not text.startswith("max")]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


@cache
def _cpuinfo(key: str) -> str:
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _meminfo(key: str) -> float:
    for line in _read(Path("/proc/meminfo")).splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 2**20
    return 0.0
