"""Read this machine: cores, memory, GPUs. Imports nothing heavy."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from largeforge.recipe.schema import Hardware


@dataclass(frozen=True)
class Machine:
    """What stages can count on."""

    device: Literal["cpu", "cuda"]
    gpu: str
    num_gpus: int
    memory_gib: float
    cores: int

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        if self.device == "cpu":
            return f"{self.cores} CPU cores, {self.memory_gib:.0f} GiB"
        return f"{self.num_gpus} × {self.gpu} ({self.memory_gib:.0f} GiB), {self.cores} CPU cores"


@cache
def gpus() -> tuple[tuple[str, float], ...]:
    """Return `(name, memory in GiB)` of each NVIDIA GPU of this machine; empty without a driver."""
    if shutil.which("nvidia-smi") is None:
        return ()
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        output = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [line.rsplit(",", 1) for line in output.splitlines() if "," in line]
    return tuple((name.strip(), float(mib) / 1024) for name, mib in rows)


def machine(hardware: Hardware) -> Machine:
    """Return what the recipe's hardware means here; what it leaves open is read from this machine."""
    found = gpus()
    device: Literal["cpu", "cuda"] = "cuda" if hardware.device == "cuda" else "cpu"
    if hardware.device == "auto":
        device = "cuda" if found else "cpu"
    cores = hardware.cores or len(os.sched_getaffinity(0))
    if device == "cpu":
        return Machine("cpu", "", 0, hardware.memory_gib or _memory_gib(), cores)
    name, memory = found[0] if found else ("GPU", 0.0)
    return Machine(
        "cuda", hardware.gpu or name, hardware.num_gpus or len(found) or 1, hardware.memory_gib or memory, cores
    )


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
