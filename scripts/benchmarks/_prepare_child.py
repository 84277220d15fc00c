"""One measurement of `prepare.py`, in a process of its own: WHAT FOLDER OPTIONS."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
import random
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

from scripts.benchmarks.tokenize import sources

HELD_OUT = 0.01
_BATCH = 10_000


def make(folder: Path, rows: int) -> dict[str, Any]:
    """Write questions and answers as JSONL, plain and compressed, as CSV and as Parquet."""
    import pyarrow
    import pyarrow.parquet

    words = [word for text in sources() for word in text.split() if word.isalpha()]
    pick = random.Random(0)
    schema = pyarrow.schema([("prompt", pyarrow.string()), ("response", pyarrow.string())])
    with (
        (folder / "rows.jsonl").open("w", encoding="utf-8") as lines,
        gzip.open(folder / "rows.jsonl.gz", "wt", encoding="utf-8", compresslevel=1) as packed,
        (folder / "rows.csv").open("w", encoding="utf-8", newline="") as cells,
        pyarrow.parquet.ParquetWriter(folder / "rows.parquet", schema) as groups,
    ):
        table = csv.writer(cells)
        table.writerow(schema.names)
        for start in range(0, rows, _BATCH):
            made = [_row(number, words, pick) for number in range(start, min(start + _BATCH, rows))]
            text = "".join(json.dumps(row) + "\n" for row in made)
            lines.write(text)
            packed.write(text)
            table.writerows(row.values() for row in made)
            groups.write_table(pyarrow.Table.from_pylist(made, schema=schema))
    return {}


def _row(number: int, words: list[str], pick: random.Random) -> dict[str, str]:
    asked, told = (pick.randrange(len(words) - 60) for _ in range(2))
    question = " ".join(words[asked : asked + pick.randint(5, 30)])
    return {"prompt": f"{question} in case {number}?", "response": " ".join(words[told : told + pick.randint(5, 60)])}


def ours(folder: Path, file: str, number: int, **options: Any) -> dict[str, Any]:
    """Run stage `prepare`."""
    from largeforge.data import contamination, mixing, near, tables  # noqa: F401 - what the stage imports late
    from largeforge.events import Events
    from largeforge.stages import prepare
    from largeforge.stages.context import Context

    __import__("numpy"), __import__("pyarrow.parquet")
    place = folder / f"ours{number}"
    for name in ("out", "work"):
        (place / name).mkdir(parents=True)
    names = ("rows.jsonl", "rows.csv", "rows.parquet")
    mix = {name.partition(".")[2]: {"path": str(folder / name), "weight": 1} for name in names}
    data = {"mix": mix, "mix_rows": 0} if file == "mix" else {"path": str(folder / file)}
    config = prepare.Config.model_validate(
        {"dataset": {"heldout_fraction": HELD_OUT, **data, **options}, "kind": "sft"}
    )
    with Path(os.devnull).open("w") as stream:
        context = Context("prepare", {}, place / "out", place / "work", Events("prepare", stream), "")
        with _Memory() as memory:
            started = time.perf_counter()
            result = prepare.run(config, context)
            seconds = time.perf_counter() - started
    rows = int(sum(result.metrics[key] for key in ("train_rows", "heldout_rows")))
    digest = _digest(place / "out")
    shutil.rmtree(place)
    return {"seconds": seconds, "rows": rows, "memory_mib": memory.grown_mib, "digest": digest}


def plain(folder: Path, file: str, number: int, processes: int | None = None) -> dict[str, Any]:
    """Do the like with `datasets` alone, as its documentation shows."""
    import datasets

    datasets.disable_progress_bars()
    place = folder / f"plain{number}"
    with _Memory() as memory:
        started = time.perf_counter()
        rows = datasets.load_dataset("json", data_files=str(folder / file), split="train", cache_dir=str(place))
        wanted = rows.map(_messages, remove_columns=rows.column_names, num_proc=processes)
        parts = wanted.train_test_split(test_size=HELD_OUT, seed=0)
        for name, part in (("train", parts["train"]), ("heldout", parts["test"])):
            part.to_json(place / f"{name}.jsonl", num_proc=processes)
        seconds = time.perf_counter() - started
    digest = _digest(place)
    shutil.rmtree(place)
    return {"seconds": seconds, "rows": len(rows), "memory_mib": memory.grown_mib, "digest": digest}


def _messages(row: dict[str, str]) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": row["prompt"]},
            {"role": "assistant", "content": row["response"]},
        ]
    }


def _digest(folder: Path) -> str:
    """Return a hash of what the rows of both files say, in whatever order."""
    found = 0
    for name in ("train", "heldout"):
        with (folder / f"{name}.jsonl").open(encoding="utf-8") as file:
            for line in file:
                said = json.dumps(json.loads(line)["messages"], sort_keys=True)
                found ^= int.from_bytes(hashlib.sha256(said.encode()).digest()[:8])
    return f"{found:016x}"


class _Memory:
    """Watches by how much this process and its children grow; files that are mapped do not count."""

    def __enter__(self) -> _Memory:
        self._done = threading.Event()
        self._start = self._most = self._now()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def grown_mib(self) -> float:
        return (self._most - self._start) / 2**20

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            self._most = max(self._most, self._now())

    @staticmethod
    def _now() -> int:
        """Return bytes of anonymous memory of this process and its children."""
        main = f"/proc/{os.getpid()}"
        total = 0
        for process in [os.getpid(), *map(int, Path(f"{main}/task/{os.getpid()}/children").read_text().split())]:
            try:
                status = Path(f"/proc/{process}/status").read_text()
            except OSError:
                continue  # it has just ended
            total += sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:")) * 1024
        return total


if __name__ == "__main__":
    doing = {"make": make, "ours": ours, "plain": plain}[sys.argv[1]]
    print(json.dumps(doing(Path(sys.argv[2]), **json.loads(sys.argv[3]))))
