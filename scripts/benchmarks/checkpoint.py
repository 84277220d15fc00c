"""What sealed checkpoints cost beside the writing itself.

Weights and the two moments of AdamW are written with safetensors and torch.save, as transformers does, in turns with
and without `training/checkpoints.py` (hashes, fsync, rename), and read once more to verify. Plain writing ends in the
kernel's memory; with fsync it ends on the disk, which is what a checkpoint is for.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.tables import columns

SUMMARY = "seconds of writing, sealing and verifying a checkpoint, beside plain writing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--mib", type=int, default=512, help="size of the weights; moments are twice that (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder otherwise")


def run(options: argparse.Namespace) -> int:
    """Measure and print the table."""
    import torch

    from largeforge.training import checkpoints

    weights = {f"layer{number}": torch.randn(2**20 // 4 * 8) for number in range(max(1, options.mib // 8))}
    moments = [torch.randn_like(weight) for weight in weights.values() for _ in range(2)]
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="largeforge-bench-", dir=options.folder) as name:
        store = checkpoints.Store(Path(name), limit=2)

        def timed(label: str, work: Callable[..., Any], *given: Any) -> None:
            started = time.perf_counter()
            work(*given)
            seconds.setdefault(label, []).append(time.perf_counter() - started)

        for step in range(options.rounds):
            plain = Path(name) / "plain"
            timed("plain writing", _write, plain, weights, moments)
            timed("fsync of it alone", checkpoints.flush, plain)
            shutil.rmtree(plain)
            os.sync()
            timed("writing, sealed", _sealed, store, step, weights, moments)
            timed("verifying", _verified, store.path(step))
    base = statistics.median(seconds["plain writing"])
    rows: list[tuple[str, ...]] = [("what", "seconds", "× plain writing")]
    for label, found in seconds.items():
        rows.append((label, f"{statistics.median(found):.2f}", f"{statistics.median(found) / base:.2f}"))
    print(columns(rows))
    size = f"{options.mib} MiB of weights, {3 * options.mib} MiB in all"
    print(f"\n{size}; hash: {checkpoints.HASH}; {os.cpu_count()} cores")
    return 0


def _write(folder: Path, weights: Any, moments: Any) -> None:
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    save_file(weights, folder / "model.safetensors")
    torch.save(moments, folder / "optimizer.pt")


def _sealed(store: Any, step: int, weights: Any, moments: Any) -> None:
    _write(store.saving / f"checkpoint-{step}", weights, moments)
    store.commit(step, {"step": step})


def _verified(path: Path) -> None:
    from largeforge.training import checkpoints

    if reason := checkpoints.damage(path):
        raise RuntimeError(reason)
