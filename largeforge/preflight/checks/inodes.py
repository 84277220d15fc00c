"""The file system of the runs can hold more files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from largeforge.preflight import needs
from largeforge.preflight.finding import Finding, error, ok, skipped, warning

if TYPE_CHECKING:
    from largeforge.preflight.context import Context

_PER_STAGE = 100
"""Files that a stage makes at most in its folder and its checkpoints, generously."""


def check(context: Context) -> Iterator[Finding]:
    """Compare the free inodes with the number of files that stages make."""
    folder = needs.nearest_existing(context.runs_root)
    status = os.statvfs(folder)
    needed = _PER_STAGE * max(len(context.pending), 1)
    cure = f"du --inodes -xd2 {folder} | sort -h | tail"
    if not status.f_files:
        yield skipped(f"{folder} has no fixed number of inodes")
    elif status.f_favail < len(context.pending):
        yield error(f"{status.f_favail} inodes free at {folder}: no more files can be made", cure)
    elif status.f_favail < needed:
        yield warning(f"{status.f_favail} inodes free at {folder}, some {needed} needed", cure)
    else:
        yield ok(f"{status.f_favail} inodes free at {folder}")
