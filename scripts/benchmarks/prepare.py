"""How fast rows are read, checked, split and written: stage `prepare` beside a plain script with `datasets`.

Questions and answers are generated from a seed, as JSONL, CSV and Parquet. The plain script loads the same file with
`datasets.load_dataset`, brings each row to `messages` with `map`, sets a part aside and writes both as JSONL; it
finds neither bad rows nor text of held-out rows in training rows. Both take turns, each in a process of its own.
Memory is what the process and its workers grew by, at most, after everything was imported.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from scripts.tables import columns

SUMMARY = "rows/s and memory of preparing a million rows, beside datasets.load_dataset and map"

TURNS = {
    "plain datasets": ("plain", "rows.jsonl", {}),
    "plain datasets, all cores": ("plain", "rows.jsonl", {"processes": os.cpu_count()}),
    "ours": ("ours", "rows.jsonl", {}),
}
"""What is run in turns: who, the file, options."""
ONCE = {
    "ours, contamination=off": ("ours", "rows.jsonl", {"contamination": "off"}),
    "ours, CSV": ("ours", "rows.csv", {}),
    "ours, Parquet": ("ours", "rows.parquet", {}),
    "ours, gzip": ("ours", "rows.jsonl.gz", {}),
    "ours, all three as a mixture": ("ours", "mix", {}),
}
NEAR = {"ours, dedup=near": ("ours", "rows.jsonl", {"dedup": "near"})}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of each file (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of ours and the plain script (%(default)s)")
    parser.add_argument("--near", action="store_true", help="also dedup=near, which takes minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures as JSON")


def run(options: argparse.Namespace) -> int:
    """Measure and print the table; return 1 when the plain script keeps other rows than ours."""
    with tempfile.TemporaryDirectory(prefix="largeforge-bench-") as name:
        folder = Path(name)
        _child("make", folder, rows=options.rows)
        found: dict[str, list[dict[str, Any]]] = {label: [] for label in TURNS}
        for number in range(options.rounds):
            for label, (what, file, further) in TURNS.items():
                found[label].append(_child(what, folder, file=file, number=number, **further))
        for label, (what, file, further) in {**ONCE, **(NEAR if options.near else {})}.items():
            found[label] = [_child(what, folder, file=file, number=0, **further)]
        megabytes = (folder / "rows.jsonl").stat().st_size / 1e6
    print(_table(found, megabytes))
    if options.json:
        said = {"found": found, "megabytes": megabytes, "cores": os.cpu_count()}
        options.json.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    if len({runs[0]["digest"] for label, runs in found.items() if label in TURNS}) != 1:
        print("the plain script and ours keep different rows", file=sys.stderr)
        return 1
    return 0


def _table(found: dict[str, list[dict[str, Any]]], megabytes: float) -> str:
    rates = {label: statistics.median(run["rows"] / run["seconds"] for run in runs) for label, runs in found.items()}
    base = rates["plain datasets"]
    rows: list[tuple[str, ...]] = [("what", "rows", "seconds", "rows/s", "× plain", "memory MiB")]
    for label, runs in found.items():
        seconds = statistics.median(run["seconds"] for run in runs)
        memory = max(run["memory_mib"] for run in runs)
        figures = (f"{seconds:.1f}", f"{rates[label]:.0f}", f"{rates[label] / base:.2f}", f"{memory:.0f}")
        rows.append((label, str(runs[0]["rows"]), *figures))
    return f"{columns(rows)}\n\n{megabytes:.0f} MB of JSONL, {os.cpu_count()} cores; seconds without imports"


def _child(what: str, folder: Path, **options: Any) -> dict[str, Any]:
    """Do one thing in a process of its own; return what it says."""
    environment = {
        **os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }  # fmt: skip
    program = [sys.executable, "-m", "scripts.benchmarks._prepare_child", what, str(folder), json.dumps(options)]
    done = subprocess.run(program, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{what}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
