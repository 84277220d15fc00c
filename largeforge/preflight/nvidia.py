"""Ask `nvidia-smi` about drivers, GPUs and the processes on them."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """One GPU that processes of this environment may use."""

    index: str
    uuid: str
    name: str
    total_gib: float
    free_gib: float
    occupants: tuple[tuple[int, str, float], ...] = ()
    """Process id, program and GiB of each process that computes on it; GiB is 0 where it is not told."""


@dataclass(frozen=True)
class Answer:
    """What the driver said; `fault` says why there is nothing else."""

    gpus: tuple[Gpu, ...] = ()
    driver: str = ""
    cuda: tuple[int, int] = (0, 0)
    """Newest CUDA version that the driver runs; (0, 0) where it was not told."""
    fault: str = ""


def ask(environ: Mapping[str, str], *, timeout_s: float) -> Answer:
    """Return the driver's answer; GPUs that `CUDA_VISIBLE_DEVICES` hides are left out."""
    program = shutil.which("nvidia-smi", path=environ.get("PATH"))
    if program is None:
        return Answer(fault="there is no nvidia-smi: no NVIDIA driver is installed")

    def query(*words: str) -> str:
        environment = {**environ, "LC_ALL": "C"}
        ended = subprocess.run(
            [program, *words], capture_output=True, text=True, timeout=timeout_s, check=False, env=environment
        )
        if ended.returncode:
            raise OSError(
                (ended.stdout or ended.stderr).strip().splitlines()[0] if ended.stdout or ended.stderr else ""
            )
        return ended.stdout

    try:
        rows = _rows(query("--query-gpu=index,uuid,name,memory.total,memory.free,driver_version", *_CSV))
        on_gpus = _rows(query("--query-compute-apps=gpu_uuid,pid,process_name,used_memory", *_CSV))
        banner = query()
    except subprocess.TimeoutExpired:
        return Answer(fault=f"nvidia-smi did not answer within {timeout_s:g} s: the driver hangs")
    except OSError as error:
        return Answer(fault=f"nvidia-smi fails: {str(error)[:200].rstrip('.') or 'no reason given'}")
    gpus = tuple(
        Gpu(index, uuid, name, _gib(total), _gib(free), _occupants(on_gpus, uuid))
        for index, uuid, name, total, free, _ in (row for row in rows if len(row) == 6)
    )
    version = re.search(r"CUDA[\w ]*Version:\s*(\d+)\.(\d+)", banner)
    cuda = (int(version[1]), int(version[2])) if version else (0, 0)
    return Answer(_visible(gpus, environ.get("CUDA_VISIBLE_DEVICES")), rows[0][-1] if rows else "", cuda)


_CSV = ("--format=csv,noheader,nounits",)


def _rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in row] for row in csv.reader(text.splitlines()) if row]


def _gib(mebibytes: str) -> float:
    return float(mebibytes) / 1024 if re.fullmatch(r"[\d.]+", mebibytes) else 0.0


def _occupants(rows: list[list[str]], uuid: str) -> tuple[tuple[int, str, float], ...]:
    mine = [row for row in rows if len(row) == 4 and row[0] == uuid and row[1].isdigit()]
    return tuple((int(pid), name, _gib(used)) for _, pid, name, used in mine)


def _visible(gpus: tuple[Gpu, ...], wanted: str | None) -> tuple[Gpu, ...]:
    """Return the GPUs that CUDA shows: those named up to the first name that fits none (CUDA programming guide)."""
    if wanted is None:
        return gpus
    found: list[Gpu] = []
    for name in (part.strip() for part in wanted.split(",")):
        match = [gpu for gpu in gpus if name and (gpu.index == name or gpu.uuid.startswith(name))]
        if len(match) != 1:
            break
        found += match
    return tuple(found)
