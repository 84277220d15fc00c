"""Read this machine: cores, memory, GPUs. Imports nothing heavy.

`machine` joins what a recipe's hardware says with what is found: numbers that the recipe leaves
open are read here. The rates of a GPU come with its profile in `conf/hardware/`, which
`recipe.profiles` looks up; those of a CPU come from `processor`.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from largeforge import processor

if TYPE_CHECKING:
    from largeforge.recipe.schema import Hardware

USABLE_SHARE = 0.98
"""Share of a GPU's memory that torch reports as its total, where no profile says better; the driver
keeps the rest. From 0.979 (L4: 22.03 of 22.49 GiB) to 0.994 (H100: 79.18 of 79.65 GiB)."""
_SMI_TIMEOUT_S = 10


class Gpu(NamedTuple):
    """One GPU of this machine, as its driver describes it."""

    name: str
    memory_gib: float
    free_gib: float
    """Memory that no process holds now."""
    driver: str
    """Version of the driver."""


@dataclass(frozen=True)
class Rates:
    """What one device can do at best, and what it costs; 0 means unknown."""

    fp32_tflops: float = 0.0
    bf16_tflops: float = 0.0
    """Dense, with fp32 accumulation."""
    fp8_tflops: float = 0.0
    """Dense, with fp32 accumulation; 0 also where the device has no fp8."""
    bandwidth_gb_per_s: float = 0.0
    """Device memory, in 10^9 bytes a second."""
    link_gb_per_s: float = 0.0
    """To another GPU of the same machine, one direction."""
    power_watts: float = 0.0
    price_per_hour: float = 0.0
    """US dollars for one device, or for the whole machine where the device is its CPU."""


@dataclass(frozen=True)
class Machine:
    """What stages can count on."""

    device: Literal["cpu", "cuda"]
    gpu: str
    num_gpus: int
    memory_gib: float
    """Of one GPU, or of the machine where the device is its CPU."""
    cores: int
    usable_memory_gib: float = 0.0
    """What processes can allocate of `memory_gib`, the context of a GPU process included; 0 means all."""
    free_memory_gib: float = 0.0
    """What is free now, on the GPU with the least; 0 when this machine has no such device to look at."""
    driver: str = ""
    rates: Rates = Rates()

    def as_dict(self) -> dict[str, Any]:
        """Return what identifies the machine as plain data; nothing that varies from hour to hour."""
        return {name: getattr(self, name) for name in ("device", "gpu", "num_gpus", "memory_gib", "cores")}

    @property
    def usable_bytes(self) -> float:
        """Memory that processes can allocate on one device, in bytes."""
        return (self.usable_memory_gib or self.memory_gib) * 2**30

    @property
    def name(self) -> str:
        """What earlier runs on the same kind of device are known by."""
        return self.gpu if self.device == "cuda" else f"{processor.name()} x{self.cores}"

    @property
    def is_here(self) -> bool:
        """Whether it is this machine rather than one that is planned for from elsewhere."""
        return self.device == "cpu" or bool(self.driver or self.free_memory_gib)

    def share(self, cores: int) -> Machine:
        """Return what a stage sees of the machine that keeps so many of its cores busy; a GPU is not divided."""
        if self.device == "cuda" or not 0 < cores < self.cores:
            return self
        rates = replace(self.rates, fp32_tflops=self.rates.fp32_tflops * cores / self.cores)
        return replace(self, cores=cores, rates=rates)

    def __str__(self) -> str:
        if self.device == "cpu":
            return f"{self.cores} CPU cores, {self.memory_gib:.0f} GiB"
        memory = f"{self.memory_gib:.0f} GiB" if self.memory_gib else "memory unknown"
        return f"{self.num_gpus} × {self.gpu} ({memory}), {self.cores} CPU cores"


def machine(hardware: Hardware) -> Machine:
    """Return what the recipe's hardware means here; what it leaves open is read from this machine."""
    found = gpus()
    device: Literal["cpu", "cuda"] = "cuda" if hardware.device == "cuda" else "cpu"
    if hardware.device == "auto":
        device = "cuda" if found else "cpu"
    cores = hardware.cores or processor.cores()
    if device == "cpu":
        return _cpu(hardware, cores)
    first = found[0] if found else Gpu("GPU", 0.0, 0.0, "")
    names = {hardware.gpu, *hardware.gpu_names} if hardware.gpu else {first.name}
    same = [gpu for gpu in found if gpu.name in names]
    memory = hardware.memory_gib or first.memory_gib
    usable = hardware.usable_memory_gib or memory * USABLE_SHARE
    return Machine(
        "cuda",
        hardware.gpu or first.name,
        hardware.num_gpus or len(same) or 1,
        memory,
        cores,
        usable_memory_gib=min(usable, memory) if memory else usable,
        free_memory_gib=min((gpu.free_gib for gpu in same), default=0.0),
        driver=first.driver if same else "",
        rates=_rates(hardware),
    )


@cache
def gpus() -> tuple[Gpu, ...]:
    """Return the GPUs of this machine, NVIDIA's or else AMD's; empty without a driver."""
    return _nvidia() or _amd()


def _cpu(hardware: Hardware, cores: int) -> Machine:
    memory = hardware.memory_gib or processor.memory_gib()
    usable = hardware.usable_memory_gib or (memory if hardware.memory_gib else processor.memory_limit_gib())
    return Machine(
        "cpu", "", 0, memory, cores, usable_memory_gib=min(usable, memory), free_memory_gib=processor.free_memory_gib(),
        rates=_rates(hardware, fp32_tflops=cores * processor.gflops_per_core() / 1000),
    )  # fmt: skip


def _rates(hardware: Hardware, *, fp32_tflops: float = 0.0) -> Rates:
    given = {name: getattr(hardware, name) for name in Rates.__dataclass_fields__}
    return Rates(**{**given, "fp32_tflops": given["fp32_tflops"] or fp32_tflops})


def _nvidia() -> tuple[Gpu, ...]:
    query = "--query-gpu=name,memory.total,memory.free,driver_version"
    rows = [row for row in _table(["nvidia-smi", query, "--format=csv,noheader,nounits"]) if len(row) == 4]
    found = [Gpu(name, _gib(total), _gib(free), driver) for name, total, free, driver in rows]
    return tuple(sorted(found, key=lambda gpu: -gpu.memory_gib))  # CUDA counts the fastest first, the driver by slot


def _amd() -> tuple[Gpu, ...]:
    """Read `rocm-smi`, whose CSV names its columns; torch on ROCm calls the device `cuda`."""
    rows = _table(["rocm-smi", "--showproductname", "--showmeminfo", "vram", "--showdriverversion", "--csv"])
    header = next((row for row in rows if row[0] == "device"), [])
    found = []
    for row in rows:
        cells = dict(zip(header, row, strict=False))
        total = cells.get("VRAM Total Memory (B)", "")
        if row[0].startswith("card") and total.isdigit():
            used = int(cells.get("VRAM Total Used Memory (B)") or 0)
            name = cells.get("Card Series") or cells.get("Card series") or "AMD GPU"
            found.append(Gpu(name, int(total) / 2**30, (int(total) - used) / 2**30, cells.get("Driver version", "")))
    return tuple(found)


def _table(command: list[str]) -> list[list[str]]:
    """Return the cells of a CSV that a program prints; none when it is not there or fails."""
    if shutil.which(command[0]) is None:
        return []
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=_SMI_TIMEOUT_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [[cell.strip() for cell in line.split(",")] for line in output.splitlines() if "," in line]


def _gib(mebibytes: str) -> float:
    """Return MiB as GiB; a driver writes `[N/A]` where memory is shared with the CPU."""
    return float(mebibytes) / 1024 if mebibytes.isdigit() else 0.0
