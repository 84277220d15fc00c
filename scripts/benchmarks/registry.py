"""How fast a large model is registered and verified, beside `cp` with fsync and `sha256sum` on the same disk.

A model of --gib GiB in files of 4 GiB at most is written, its pages are pushed out of memory before each reading where
that is possible (as root), and the local registry copies and hashes it in one pass, then verifies it. Memory is the
peak of the process that did both. `pack` and `take` export to a tar file and import that.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from scripts.tables import columns

SUMMARY = "GB/s of registering and verifying a large model, beside cp and sha256sum"
_SHARD_BYTES = 4 * 2**30
_CHUNK_BYTES = 16 * 2**20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--gib", type=float, default=10.0, help="size of the model (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where to write; three times the size (a temporary folder)")
    parser.add_argument("--tar", action="store_true", help="also export to a tar file, and import that")
    parser.add_argument("--child", help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    """Measure and print the table."""
    if options.child:
        return _child(Path(options.child), tar=options.tar)
    size = int(options.gib * 2**30)
    with tempfile.TemporaryDirectory(prefix="largeforge-bench-", dir=options.folder) as name:
        home = Path(name)
        model = _write_model(home / "model", size)
        rows = [("sha256sum", _timed(lambda: _sha256sum(model)), "")]
        rows.append(("cp, then sync", _timed(lambda: _cp(model, home / "copy")), ""))
        rows.append(("sha256sum of the copy", _timed(lambda: _sha256sum(home / "copy")), ""))
        shutil.rmtree(home / "copy")
        argv = [sys.executable, "-m", "scripts.benchmarks", "registry", "--child", name]
        ended = subprocess.run([*argv, *(["--tar"] if options.tar else [])], capture_output=True, text=True)
        if ended.returncode:
            print(ended.stderr, file=sys.stderr)
            return 1
        told = json.loads(ended.stdout.splitlines()[-1])
        rows += [(label, seconds, f"{told['peak_mib']:.0f}") for label, seconds in told["seconds"].items()]
    shown: list[tuple[str, ...]] = [("what", "seconds", "GB/s", "peak MiB")]
    shown += [(label, f"{seconds:.1f}", f"{size / seconds / 1e9:.2f}", peak) for label, seconds, peak in rows]
    print(columns(shown))
    print(f"\n{options.gib:g} GiB; {os.cpu_count()} cores; pages dropped before each reading: {_can_drop()}")
    return 0


def _child(home: Path, *, tar: bool) -> int:
    from largeforge.recipe import model_ref
    from largeforge.recipe.schema import Registry
    from largeforge.registry import Lineage, ModelRegistry, bundle

    registry = ModelRegistry(Registry(uri=f"sqlite:///{home}/registry/mlflow.db", artifacts=str(home / "files")))
    with registry.database.writing():
        pass  # making the database takes seconds, and is done once
    lineage = Lineage("benchmark", "d", "l")
    seconds = {
        "register": _timed(
            lambda: registry.register("m", home / "model", kind="model", lineage=lineage, metrics={}, alias="champion")
        )
    }
    version = registry.find(model_ref.parse("registry:m"))
    seconds["verify"] = _timed(lambda: registry.verify(version))
    shutil.rmtree(home / "model")
    if tar:
        seconds["export to .tar, read again"] = _timed(lambda: bundle.export(registry, version, home / "m.tar"))
        seconds["import the .tar as another"] = _timed(lambda: bundle.take(registry, home / "m.tar", name="n"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mib": peak}))
    return 0


def _write_model(folder: Path, size: int) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    noise, left, number = os.urandom(_CHUNK_BYTES), size, 0
    while left > 0:
        number += 1
        with (folder / f"model-{number:05}.safetensors").open("wb") as stream:
            written = 0
            while left > 0 and written < _SHARD_BYTES:
                stream.write(number.to_bytes(8, "big") + written.to_bytes(8, "big"))
                stream.write(noise[16 : min(left, _CHUNK_BYTES)])
                written += _CHUNK_BYTES
                left -= _CHUNK_BYTES
    return folder


def _timed(work: Callable[[], object]) -> float:
    _drop()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _sha256sum(folder: Path) -> None:
    subprocess.run(["sha256sum", *map(str, sorted(folder.iterdir()))], check=True, stdout=subprocess.DEVNULL)


def _cp(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-r", "--reflink=never", str(source), str(target)], check=True)
    subprocess.run(["sync", *map(str, target.iterdir())], check=True)


def _can_drop() -> str:
    return "yes" if os.access("/proc/sys/vm/drop_caches", os.W_OK) else "no"


def _drop() -> None:
    os.sync()
    if os.access("/proc/sys/vm/drop_caches", os.W_OK):
        Path("/proc/sys/vm/drop_caches").write_text("1")
