"""The file of measured points, and how well the estimate meets them."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from largeforge.artifacts import write_text
from largeforge.estimate.memory import GIB, Memory
from largeforge.estimate.training import training_memory
from scripts.benchmarks._memory_point import Point, load_of
from scripts.tables import columns

PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate")


@dataclass(frozen=True)
class Measured:
    """A point, what was seen, and what was estimated."""

    point: Point
    seen: dict[str, Any]
    kind: str

    @property
    def bytes(self) -> float:
        """What the estimate is held against: tensors where traced, the whole process where it ran."""
        return float(self.seen["peak"])

    @property
    def estimate(self) -> float:
        """The estimate of the same."""
        memory = estimate(self.point, self.kind)
        return memory.total - (memory.parts.get("overhead", 0.0) if self.kind == "traced" else 0.0)

    @property
    def error(self) -> float:
        """Share by which the estimate is above (or, negative, below) what was seen."""
        return self.estimate / self.bytes - 1


def estimate(point: Point, kind: str) -> Memory:
    """Return the estimate of a point."""
    return training_memory(load_of(point, "cpu" if kind == "cpu" else "cuda"))


def read(path: Path) -> list[Measured]:
    """Return the points of a file; none when there is no file."""
    if not path.exists():
        return []
    document = json.loads(path.read_text(encoding="utf-8"))
    found = []
    for entry in document["points"]:
        settings = {**entry["point"], "architecture": document["architectures"][entry["point"]["model"]]}
        found.append(Measured(Point(**settings), entry["seen"], document["kind"]))
    return found


def write(path: Path, kind: str, device: str, measured: list[Measured]) -> None:
    """Write the points with the versions they were made with."""
    architectures = {one.point.model: dict(one.point.architecture) for one in measured}
    points = [{"point": one.point.settings(), "seen": one.seen} for one in measured]
    head = {"kind": kind, "device": device, "versions": _versions(), "architectures": architectures}
    lines = ",\n  ".join(json.dumps(point) for point in points)
    text = json.dumps(head, indent=1)[:-2] + f',\n "points": [\n  {lines}\n ]\n}}\n'
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)


def table(measured: list[Measured]) -> str:
    """Return a table of all points, and under it the errors in one line."""
    rows: list[tuple[str, ...]] = [("point", "seen GiB", "estimated GiB", "error", "peak at")]
    for one in measured:
        if "peak" in one.seen:
            peak = estimate(one.point, one.kind).peak_phase
            sizes = (f"{one.bytes / GIB:.2f}", f"{one.estimate / GIB:.2f}")
            rows.append((one.point.label, *sizes, f"{100 * one.error:+.1f} %", peak))
        else:
            size = f"{estimate(one.point, one.kind).total / GIB:.2f}"
            rows.append((one.point.label, one.seen["failed"][:40], size, "", ""))
    return columns(rows) + "\n" + summary(measured)


def summary(measured: list[Measured]) -> str:
    """Return median, 95th percentile and worst error, and how many points ran out that the estimate let through."""
    errors = [one.error for one in measured if "peak" in one.seen]
    if not errors:
        return "no points"
    median, p95 = percentiles(errors)
    wrong = false_fits(measured)
    return (
        f"{len(errors)} points: median error {100 * median:.1f} %, p95 {100 * p95:.1f} %, "
        f"furthest below {100 * min(0.0, *errors, 0.0):.1f} %, furthest above {100 * max(0.0, *errors, 0.0):.1f} %; "
        f"said to fit and ran out: {len(wrong)}"
    )


def percentiles(errors: list[float]) -> tuple[float, float]:
    """Return median and 95th percentile of the absolute errors."""
    sizes = sorted(abs(error) for error in errors)
    return statistics.median(sizes), sizes[min(len(sizes) - 1, int(0.95 * len(sizes)))]


def false_fits(measured: list[Measured]) -> list[Measured]:
    """Return the points that ran out of memory although the estimate is below what the device has."""
    out = [one for one in measured if one.seen.get("failed") == "out of memory"]
    return [one for one in out if estimate(one.point, one.kind).total <= one.seen["capacity"]]


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
