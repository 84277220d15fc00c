"""Where the quickstart's time goes: seconds of each stage, and the share that is overhead.

Useful is: the trainer's own loop (`train_seconds`), judging held-out rows (from an evaluation's
first progress to its last), and answering questions (the answers' latencies). Overhead is all
else: starting processes, importing, loading, hashing, registering, waiting. Of the wall time,
overhead is every moment in which no stage does anything useful; of a stage, its seconds less
its useful ones. Stages that were reused from an earlier run took no time and are left out.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.tables import columns

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

SUMMARY = "seconds of each stage of the quickstart, and the share that is overhead"

WIDTH = 40
"""Characters of the time line."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Stage:
    """When a stage ran, and when it was useful; seconds since the start of the run."""

    name: str
    start: float
    seconds: float
    useful: tuple[Interval, ...]

    @property
    def useful_seconds(self) -> float:
        """Seconds in which the stage trained, judged or answered."""
        return covered(self.useful)


@dataclass(frozen=True)
class Analysis:
    """A finished run."""

    seconds: float
    stages: tuple[Stage, ...]
    reused: tuple[str, ...]

    @property
    def overhead_seconds(self) -> float:
        """Wall time in which no stage did anything useful."""
        return self.seconds - covered(interval for stage in self.stages for interval in stage.useful)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--run", type=Path, metavar="DIR", help="analyse this finished run instead of making one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers as JSON")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="overrides for the recipe")


def run(options: argparse.Namespace) -> int:
    """Make or read a run and print where its time went; the run's exit code when it failed."""
    if options.run:
        return _print(analyse(options.run), options.json)
    with tempfile.TemporaryDirectory(prefix="largeforge-bench-") as folder:
        started = time.monotonic()
        command = [sys.executable, "-m", "largeforge", "+recipe=quickstart", *options.overrides]
        code = subprocess.run(command, cwd=folder, stdout=sys.stderr).returncode
        print(f"\npython -m largeforge +recipe=quickstart: {time.monotonic() - started:.1f} s, exit code {code}")
        found = sorted(Path(folder).glob("runs/quickstart/*/events.jsonl"))
        if code == 0 and found:
            _print(analyse(found[-1].parent), options.json)
        return code


def analyse(run_dir: Path) -> Analysis:
    """Read a run directory; of a run that was continued, the last part in which a stage ran."""
    lines = (run_dir / "events.jsonl").read_text(encoding="utf-8").splitlines()
    events = _last_part([json.loads(line) for line in lines])
    begin = events[0]["time"]
    by_stage: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        by_stage[event["stage"]].append(event)
    stages, reused = [], []
    for name, of_stage in by_stage.items():
        manifest = run_dir / name / "manifest.json"
        if not name or not manifest.is_file():
            continue
        if any(event.get("reused") for event in of_stage):
            reused.append(name)
            continue
        stages.append(_stage(json.loads(manifest.read_text(encoding="utf-8")), of_stage, begin))
    stages.sort(key=lambda stage: stage.start)
    return Analysis(events[-1]["time"] - begin, tuple(stages), tuple(reused))


def _last_part(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the events from the last start of a run after which a stage finished that was not reused."""
    starts = [index for index, event in enumerate(events) if event["kind"] == "run_started"]
    parts = [events[start:end] for start, end in pairwise([*starts, len(events)])]
    worked = [part for part in parts if any(e["kind"] == "finished" and not e.get("reused") for e in part)]
    return (worked or parts)[-1]


def covered(intervals: Iterable[Interval]) -> float:
    """Return how many seconds are covered by at least one interval."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def table(analysis: Analysis) -> str:
    """Return one line per stage with its place on the time line (`█` useful, `░` overhead), and the sums."""
    rows = [("stage", "time line", "start s", "seconds", "useful s", "overhead s")]
    for stage in analysis.stages:
        seconds, useful = stage.seconds, stage.useful_seconds
        numbers = (f"{stage.start:.1f}", f"{seconds:.1f}", f"{useful:.1f}", f"{seconds - useful:.1f}")
        rows.append((stage.name, time_line(stage, analysis.seconds), *numbers))
    busy = sum(stage.seconds for stage in analysis.stages)
    useful = sum(stage.useful_seconds for stage in analysis.stages)
    rows.append(("all stages", "", "", f"{busy:.1f}", f"{useful:.1f}", f"{busy - useful:.1f}"))
    lines = [columns(rows, left=2), ""]
    if analysis.reused:
        lines.append(f"reused from an earlier run, not counted: {', '.join(analysis.reused)}")
    share = analysis.overhead_seconds / analysis.seconds
    text = f"wall time {analysis.seconds:.1f} s, of which {analysis.overhead_seconds:.1f} s ({share:.0%}) are overhead:"
    return "\n".join([*lines, f"{text} no stage trained, judged or answered"])


def time_line(stage: Stage, total: float) -> str:
    """Draw when a stage ran and was useful."""
    cells = []
    for index in range(WIDTH):
        middle = (index + 0.5) * total / WIDTH
        running = stage.start <= middle < stage.start + stage.seconds
        useful = any(start <= middle < end for start, end in stage.useful)
        cells.append("█" if useful else "░" if running else "·")
    return "".join(cells)


def _stage(manifest: dict[str, Any], events: list[dict[str, Any]], begin: float) -> Stage:
    intervals = _useful(manifest, events)
    shifted = tuple((start - begin, end - begin) for start, end in intervals if end > start)
    return Stage(manifest["stage"], manifest["started"] - begin, manifest["seconds"], shifted)


def _useful(manifest: dict[str, Any], events: list[dict[str, Any]]) -> list[Interval]:
    progress = [event["time"] for event in events if event["kind"] == "progress"]
    if manifest["kind"] == "train" and progress:
        return [(progress[-1] - manifest["metrics"].get("train_seconds", 0.0), progress[-1])]
    if manifest["kind"] == "evaluate" and progress:
        return [(progress[0], progress[-1])]
    answers = [event for event in events if event["kind"] == "answer"]
    return [(event["time"] - event["latency_ms"] / 1000, event["time"]) for event in answers]


def _print(analysis: Analysis, path: Path | None) -> int:
    print(table(analysis))
    if path:
        stages = [
            {"stage": s.name, "start_s": s.start, "seconds": s.seconds, "useful_s": s.useful_seconds}
            for s in analysis.stages
        ]
        found = {"seconds": analysis.seconds, "overhead_s": analysis.overhead_seconds, "stages": stages}
        path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0
