"""GPU memory that is free now is enough, and who holds the rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from largeforge.preflight import needs
from largeforge.preflight.checks.gpu import wanted_gpus
from largeforge.preflight.finding import Finding, error, ok, skipped, warning

if TYPE_CHECKING:
    from largeforge.preflight.context import Context
    from largeforge.preflight.nvidia import Gpu

_TAKEN = 0.1
"""Share of a GPU that others may hold without a word; a desktop takes about that of a small card."""


def check(context: Context) -> Iterator[Finding]:
    """Compare what is free on each GPU with what the plan needs of one."""
    if not context.gpus.gpus:
        yield skipped("there is no GPU to look at")
        return
    needed, stage = needs.peak(context) if context.wants_gpu else (0.0, "")
    if needs.serving_share(context) and not needed:
        needed, stage = needs.serving_share(context) * context.gpus.gpus[0].total_gib * 2**30, "serve"
    count = wanted_gpus(context) if context.wants_gpu else len(context.gpus.gpus)
    for gpu in context.gpus.gpus[: max(count, 1)]:
        yield _one(gpu, needed / 2**30, stage)


def _one(gpu: Gpu, needed_gib: float, stage: str) -> Finding:
    text = f"GPU {gpu.index}: {gpu.free_gib:.1f} of {gpu.total_gib:.1f} GiB free"
    text += f", {needed_gib:.1f} GiB needed by {stage}" if needed_gib else ""
    held = ", ".join(f"{name} (pid {pid}, {used:.1f} GiB)" for pid, name, used in gpu.occupants)
    text += f"; held by {held}" if held else ""
    pids = " ".join(str(pid) for pid, _, _ in gpu.occupants)
    cure = f"ps -fp {','.join(pids.split())}; then kill {pids}" if pids else f"sudo fuser -v /dev/nvidia{gpu.index}"
    if needed_gib > gpu.free_gib:
        return error(text, cure)
    if gpu.free_gib < (1 - _TAKEN) * gpu.total_gib and not needed_gib:
        return warning(text, cure)
    return ok(text)
