"""Peak memory of real training steps, beside the estimate.

Each point is a process of its own: a model of random weights built from a public configuration, three steps
through LargeForge's own training methods with rows of exact length. With --traced no step is computed: the
same program runs on fake tensors and every byte that torch would allocate on a GPU is counted.
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import subprocess
import sys
import time
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.benchmarks import _memory_points as points
from scripts.benchmarks._memory_grid import cpu_grid, cuda_grid, traced_grid

if TYPE_CHECKING:
    import argparse

    from scripts.benchmarks._memory_point import Point

SUMMARY = "peak memory of real training steps, beside the estimate"

_TIMEOUT_S = 600
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""glibc gives freed blocks back to the system at once, so that the resident set follows the tensors."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="where to train (default: %(default)s)"
    )
    parser.add_argument("--traced", action="store_true", help="count on fake tensors what a GPU would allocate")
    parser.add_argument("--points", default="", metavar="TEXT", help="only points whose name contains this")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write what was measured, after every point")
    parser.add_argument("--resume", action="store_true", help="keep the points that are in FILE already")
    parser.add_argument("--jobs", type=int, default=1, help="points at a time, for --traced (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Measure, print the table, and return 1 when a point ran out that the estimate let through."""
    kind = "traced" if options.traced else options.device
    grid = {"traced": traced_grid, "cuda": cuda_grid, "cpu": cpu_grid}[kind]()
    grid = [point for point in grid if options.points in point.label]
    measured = points.read(options.output) if options.resume and options.output else []
    known = {one.point.label for one in measured if "failed" not in one.seen}
    measured = [one for one in measured if one.point.label in known]
    waiting = [point for point in grid if point.label not in known]
    started = time.monotonic()
    with _pool(options) as pool:
        for number, (point, seen) in enumerate(
            zip(waiting, pool.map(partial(measure, kind=kind), waiting), strict=True)
        ):
            measured.append(points.Measured(point, seen, kind))
            got = f"{seen['peak'] / points.GIB:.2f} GiB" if "peak" in seen else seen["failed"]
            seconds = time.monotonic() - started
            print(f"[{number + 1}/{len(waiting)}, {seconds:.0f} s] {point.label}: {got}", file=sys.stderr, flush=True)
            if options.output:
                points.write(options.output, kind, str(seen.get("device", kind)), measured)
    print(points.table(measured))
    return 1 if points.false_fits(measured) else 0


def _pool(options: argparse.Namespace) -> Executor:
    """Traces share processes, since nothing of one is left for the next; what is measured starts its own."""
    if options.traced:
        return ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn"))
    return ThreadPoolExecutor(1)


def measure(point: Point, kind: str) -> dict[str, Any]:
    """Measure a point, in a process of its own unless it is traced; return what it saw, or `failed` with the reason."""
    if kind == "traced":
        return _traced(point)
    program = [sys.executable, "-m", "scripts.benchmarks._memory_child", kind, json.dumps(asdict(point))]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "TOKENIZERS_PARALLELISM": "false", **_MALLOC}
    try:
        ended = subprocess.run(program, capture_output=True, text=True, env=environment, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return {"failed": f"took longer than {_TIMEOUT_S} s"}
    answer = [line for line in ended.stdout.splitlines() if line.startswith('{"measured"')]
    if answer:
        return dict(json.loads(answer[-1])["measured"])
    return {"failed": (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]}


def _traced(point: Point) -> dict[str, Any]:
    import datasets

    from scripts.benchmarks._memory_trace import trace

    datasets.disable_progress_bars()
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            return trace(point)
        except RuntimeError as error:
            return {"failed": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
