"""Disks have room for what the plan writes: checkpoints, models, registry, downloads."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.preflight import needs
from largeforge.preflight.finding import Finding, error, ok, warning

if TYPE_CHECKING:
    from largeforge.preflight.context import Context

_SMALL_GIB = 1.0
"""Less than this is little for anything: logs, databases, temporary files."""


def check(context: Context) -> Iterator[Finding]:
    """Compare, for each file system, what is free with what is going to be written to it."""
    by_disk: dict[int, list[needs.Written]] = {}
    for written in [needs.Written(context.runs_root, 0.0, "runs"), *needs.written(context)]:
        by_disk.setdefault(needs.nearest_existing(written.folder).stat().st_dev, []).append(written)
    for parts in by_disk.values():
        folder = needs.nearest_existing(parts[0].folder)
        yield _disk(folder, parts, free_bytes=shutil.disk_usage(folder).free)


def _disk(folder: Path, parts: list[needs.Written], *, free_bytes: float) -> Finding:
    needed = sum(part.size_bytes for part in parts)
    free, wanted = f"{gib(free_bytes)} free at {folder}", ""
    if needed:
        what = ", ".join(f"{part.what} {gib(part.size_bytes)}" for part in parts if part.size_bytes)
        wanted = f", {gib(needed)} needed ({what})"
    cure = f"du -xh -d2 {folder} | sort -h | tail; or choose another disk with runs.root=FOLDER"
    if needed > free_bytes:
        return error(free + wanted, cure)
    if free_bytes - needed < _SMALL_GIB * 2**30:
        return warning(f"{free + wanted}: little is left", cure)
    return ok(free + wanted)


def gib(size_bytes: float) -> str:
    """Return a size in GiB for people."""
    return f"{size_bytes / 2**30:.1f} GiB" if size_bytes >= 2**30 / 10 else f"{size_bytes / 2**20:.0f} MiB"
