"""Where the time of our gateway goes: py-spy looks at it from outside while it is asked."""

from __future__ import annotations

import subprocess
from collections import Counter
from typing import TYPE_CHECKING

from scripts.benchmarks import _gateway_cells as cells
from scripts.benchmarks import _peers
from scripts.benchmarks._gateway_cells import Cell, Subject
from scripts.benchmarks._gateway_servers import BenchmarkFailed
from scripts.tables import columns

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PACKAGES = _peers.Packages("py-spy", ("py-spy==0.4.1",))
KINDS = (Cell("short", 16), Cell("long", 16), Cell("stream", 16))
MOST_LINES = 40
SAMPLES_PER_S = 400


def report(subject: Subject, *, load: Path, folder: Path, programs: Path, seconds: float) -> str:
    """Return the functions that were running most often, for each kind of request."""
    assert subject.server is not None
    parts = []
    for cell in KINDS:
        stacks = folder / f"stacks-{cell.kind}.txt"
        argv = [
            str(programs / "py-spy"), "record", "--pid", str(subject.server.pids()[0]), "--duration", f"{seconds:.0f}",
            "--rate", str(SAMPLES_PER_S), "--native", "--function", "--format", "raw", "--output", str(stacks),
        ]  # fmt: skip
        subject.server.go_on()
        watching = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        cells.measure(subject, cell, load=load, folder=folder, seconds=seconds + 1, most=0)
        said, _ = watching.communicate()
        if watching.returncode:
            raise BenchmarkFailed(f"py-spy: {said[-800:]}")
        parts.append(f"{cell.kind}, {cell.connections} connections\n{_table(stacks.read_text().splitlines())}")
    return "\n\n".join(parts)


def _table(stacks: Iterable[str]) -> str:
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for line in stacks:
        frames, _, count = line.rpartition(" ")
        names = frames.split(";")
        if names[-1].startswith("epoll_"):  # it waits
            continue
        own[names[-1]] += int(count)
        for name in set(names):
            whole[name] += int(count)
    total = sum(own.values()) or 1
    ours = [name for name, _ in whole.most_common() if "largeforge/" in name][:MOST_LINES]
    parts = []
    slowest = [name for name, _ in own.most_common(MOST_LINES)]
    for title, names in (("by their own time", slowest), ("of LargeForge", ours)):
        lines: list[tuple[str, ...]] = [(f"functions {title}", "own %", "with callees %")]
        for name in names:
            lines.append((name[:90], f"{100 * own[name] / total:.1f}", f"{100 * whole[name] / total:.1f}"))
        parts.append(columns(lines))
    return "\n\n".join(parts)
