"""The machine that a recipe runs on, and where it leaves its results."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from largeforge.recipe.base import Strict

PIN_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9._+!-]*$"
"""A package with one version; never an option of pip, an address or a file."""
Pin = Annotated[str, Field(pattern=PIN_PATTERN)]


class Hardware(Strict):
    """The machine that the stages run on; rates and price are those of one GPU, or of the CPU for `cpu`.

    In `auto`, a GPU that one of the profiles under `conf/hardware/` names brings the profile's figures.
    """

    name: str
    """Name of the choice under `conf/hardware/`; `auto` reads this machine."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """What to compute on; `auto` is the GPU where there is one."""
    gpu: str = ""
    """GPU as the vendor names it."""
    gpu_names: list[str] = []
    """Names that the driver gives to this GPU; how `auto` recognises it."""
    compute_capability: float = Field(default=0, ge=0)
    """Of an NVIDIA GPU, which decides what kernels there are for quantized models; 0 means unknown or none."""
    num_gpus: int = Field(default=0, ge=0)
    """GPUs to use; 0 means as found."""
    memory_gib: float = Field(default=0, ge=0)
    """Memory of one GPU, or of the machine for `cpu`; 0 means as found."""
    usable_memory_gib: float = Field(default=0, ge=0)
    """What processes can allocate of it, as torch reports the total; 0 means as found."""
    cores: int = Field(default=0, ge=0)
    """CPU cores to use; 0 means as found."""
    fp32_tflops: float = Field(default=0, ge=0)
    """Peak rate in fp32; 0 means unknown, and for a CPU worked out from its cores."""
    bf16_tflops: float = Field(default=0, ge=0)
    """Peak dense rate in bf16 with fp32 accumulation; 0 means unknown or not there."""
    fp8_tflops: float = Field(default=0, ge=0)
    """Peak dense rate in fp8 with fp32 accumulation; 0 means unknown or not there."""
    bandwidth_gb_per_s: float = Field(default=0, ge=0)
    """Memory bandwidth in 10^9 bytes a second; 0 means unknown."""
    link_gb_per_s: float = Field(default=0, ge=0)
    """Bandwidth to another GPU of the machine, one direction, in 10^9 bytes a second; 0 means unknown."""
    power_watts: float = Field(default=0, ge=0)
    """Power limit; 0 means unknown."""
    price_per_hour: float = Field(default=0, ge=0)
    """US dollars for an hour of one GPU, or of the machine for `cpu`; 0 means that no costs are shown."""


class Environment(Strict):
    """The interpreter that stages run in."""

    name: str = "current"
    """Name of the choice under `conf/environment/`."""
    python: str = ""
    """Path of an interpreter with LargeForge installed; empty means the runner's own."""
    requirements: list[Pin] = []
    """Packages (`name==version`) that take the place of those of the runner's own interpreter, or come on top of
    them; built once into an environment of their own (`python -m largeforge environments`)."""


class Registry(Strict):
    """Where registered models live (MLflow)."""

    name: str = "local"
    """Name of the choice under `conf/registry/`."""
    uri: str = "sqlite:///registry/mlflow.db"
    """MLflow tracking and registry URI."""
    artifacts: str = "registry/artifacts"
    """Folder (or store URI) for the files of new models."""


class Runs(Strict):
    """Where runs are written, and whether one continues."""

    root: str = "runs"
    """Folder of all runs, relative to the working directory."""
    resume: bool = True
    """Continue the newest unfinished run of the same recipe and reuse finished stages."""
