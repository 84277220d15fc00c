"""Data that does not fit into memory: what a process holds does not grow with the text of its rows."""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet

PROGRAM = """
import io, json, sys
from pathlib import Path
from largeforge.events import Events
from largeforge.stages import prepare
from largeforge.stages.context import Context

for name in sys.argv[1:]:
    place = Path(name)
    for folder in ("out", "work"):
        (place / folder).mkdir()
    mix = {path.suffix[1:]: {"path": str(path), "weight": 1} for path in sorted(place.glob("rows.*"))}
    data = {"mix": mix, "dedup": "exact", "contamination": "remove", "heldout_fraction": 0.002}
    config = prepare.Config.model_validate({"dataset": data, "kind": "sft"})
    result = prepare.run(config, Context("prepare", {}, place / "out", place / "work", Events("", io.StringIO()), ""))
    status = Path("/proc/self/status").read_text()  # ru_maxrss begins with what the parent held
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    print(json.dumps([peak, result.metrics["train_rows"]]))
"""


def write(folder: Path, rows: int) -> int:
    """Write three files of long rows; return the bytes of their text."""
    folder.mkdir()
    size = 0
    schema = pyarrow.schema([("prompt", pyarrow.string()), ("response", pyarrow.string())])
    with (
        gzip.open(folder / "rows.jsonl.gz", "wt", compresslevel=1) as lines,
        (folder / "rows.csv").open("w", newline="") as cells,
        pyarrow.parquet.ParquetWriter(folder / "rows.parquet", schema) as groups,
    ):
        table = csv.writer(cells)
        table.writerow(["prompt", "response"])
        for start in range(0, rows, 50):
            made: dict[str, list[dict[str, str]]] = {}
            for name in ("a", "b", "c"):
                numbers = range(start, start + 50)
                made[name] = [{"prompt": f"{name} {n}?", "response": f"{name}{n} " * (8000 // 5)} for n in numbers]
                size += sum(len(row["response"]) for row in made[name])
            lines.write("".join(json.dumps(row) + "\n" for row in made["a"]))
            table.writerows(row.values() for row in made["b"])
            groups.write_table(pyarrow.Table.from_pylist(made["c"], schema=schema))
    return size


def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    small, large = write(tmp_path / "small", 700), write(tmp_path / "large", 2800)
    folders = [str(tmp_path / name) for name in ("small", "large")]
    steady = {
        **os.environ,
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_TRIM_THRESHOLD_": "65536",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *folders], capture_output=True, text=True, timeout=300, env=steady
    )
    assert done.returncode == 0, done.stderr
    (before, few), (after, many) = map(json.loads, done.stdout.splitlines())  # the first fills all buffers
    assert many > 3.9 * few
    assert large - small > 50 * 2**20
    assert after - before < (large - small) / 2  # what allocators keep differs by some MiB between runs
