"""Limits of this shell: open files, and shared memory for processes that exchange tensors."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.preflight.checks.disk import gib
from largeforge.preflight.checks.gpu import wanted_gpus
from largeforge.preflight.finding import Finding, ok, skipped, warning

if TYPE_CHECKING:
    from largeforge.preflight.context import Context

SHARED_MEMORY = Path("/dev/shm")
_FILES = 1024
_FILES_SERVING = 4096
"""The gateway has two sockets for each request in flight, and vLLM files and sockets of its own."""
_SHARED_BYTES = 2**30
"""NCCL and vLLM pass tensors between processes through it; containers get 64 MiB unless told otherwise."""


def check(context: Context) -> Iterator[Finding]:
    """Compare the limits with what servers and several processes need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES_SERVING if context.starts_vllm else _FILES
    if 0 <= soft < wanted:
        enough = hard < 0 or hard >= wanted
        cure = (
            f"ulimit -n {wanted}"
            if enough
            else f"raise the hard limit: ulimit -Hn is {hard} (limits.conf, LimitNOFILE)"
        )
        yield warning(f"at most {soft} open files, {wanted} are safe", cure)
    else:
        yield ok(f"{'any number of' if soft < 0 else soft} open files")
    yield _shared(context)


def _shared(context: Context) -> Finding:
    processes = wanted_gpus(context) if context.wants_gpu else 1
    if not SHARED_MEMORY.is_dir():
        return skipped(f"there is no {SHARED_MEMORY}")
    status = os.statvfs(SHARED_MEMORY)
    free = status.f_bavail * status.f_frsize
    if processes > 1 and free < _SHARED_BYTES:
        text = f"{SHARED_MEMORY} has {gib(free)} free, and {processes} processes exchange tensors through it"
        return warning(
            text, f"sudo mount -o remount,size=8G {SHARED_MEMORY}; in a container: --shm-size=8g or --ipc=host"
        )
    return ok(f"{gib(free)} free in {SHARED_MEMORY}")
