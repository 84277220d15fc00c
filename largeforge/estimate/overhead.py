"""Memory that no tensor of the model explains: the CUDA context, libraries, and blocks lost between others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.estimate.memory import GIB

if TYPE_CHECKING:
    from largeforge.estimate.training import TrainingLoad

CUDA_CONTEXT = 0.5 * GIB
"""Context, kernels and libraries of one process, 0.45-0.6 GiB by architecture; not yet measured here."""
CUBLAS_WORKSPACE = 2 * 32 * 2.0**20
"""Workspaces of cuBLAS and cuBLASLt, 32 MiB each on Hopper (PyTorch docs, "cuBLAS workspaces")."""
CPU_PROCESS = 0.75 * GIB
"""Resident set of a worker with torch, transformers, trl and peft imported, measured on Linux."""


def overhead(load: TrainingLoad) -> float:
    """Return the bytes of a process beside its tensors."""
    return CPU_PROCESS if load.device == "cpu" else CUDA_CONTEXT + CUBLAS_WORKSPACE
