"""Main memory that is free now is enough for the stages that run on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.preflight import needs
from largeforge.preflight.checks.disk import gib
from largeforge.preflight.finding import Finding, error, ok, skipped, warning

if TYPE_CHECKING:
    from largeforge.preflight.context import Context

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
_SMALL_BYTES = 2 * 2**30
"""torch, transformers and trl alone take about 1 GiB once imported."""
_CURE = "ps -eo pid,rss,comm --sort=-rss | head -5"


def check(context: Context) -> Iterator[Finding]:
    """Compare the available memory, and the container's limit, with the largest stage."""
    try:
        available, swap = available_bytes()
    except (OSError, KeyError, ValueError):
        yield skipped(f"{MEMINFO} cannot be read")
        return
    needed, stage = needs.peak(context) if not context.wants_gpu else (0.0, "")
    wanted = f", {gib(needed)} needed by {stage}" if needed else ""
    text = f"{gib(available)} of memory available{wanted}"
    if needed > available + swap:
        yield error(text, f"{_CURE} shows what to stop; mode=plan shows what makes the stage smaller")
    elif needed > available:
        yield warning(f"{text}: it would swap and take many times as long", _CURE)
    elif available < _SMALL_BYTES and not needed:
        yield warning(f"{text}: little for anything that imports torch", _CURE)
    else:
        yield ok(text)


def available_bytes() -> tuple[int, int]:
    """Return the bytes that can be had without swapping, and the free swap; a container's limit counts.

    Raises OSError, KeyError or ValueError where the kernel does not tell.
    """
    lines = (line.split() for line in MEMINFO.read_text().splitlines())
    kib = {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) > 1}
    available, swap = kib["MemAvailable"] * 1024, kib.get("SwapFree", 0) * 1024
    try:
        limit = int((CGROUP / "memory.max").read_text())
        reclaimable = (line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        files = sum(int(value) for name, value in reclaimable if name in ("inactive_file", "active_file"))
        used = int((CGROUP / "memory.current").read_text()) - files
    except (OSError, ValueError):  # no container, or `max`: no limit
        return available, swap
    return min(available, limit - used), swap
