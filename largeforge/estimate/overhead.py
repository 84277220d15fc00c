"""Memory that no tensor of the model explains: the process, the CUDA context, and blocks lost between others."""

from __future__ import annotations

from typing import Literal

from largeforge.estimate.memory import GIB

CUDA_CONTEXT = 0.5 * GIB
"""Context, kernels and libraries of one process: 0.45-0.6 GiB by architecture, taken from what is commonly
reported; not measured here."""
CUBLAS_WORKSPACE = 2 * 32 * 2.0**20
"""Workspaces of cuBLAS and of cuBLASLt, 32 MiB each on Hopper, else less (PyTorch docs, "cuBLAS workspaces")."""
FRAGMENTATION = 0.02
"""Share of what comes and goes (activations, gradients, logits) that the caching allocator loses between blocks: it
takes 20 MiB segments for blocks of 1 to 10 MiB, rounds larger ones up to 2 MiB, and splits them (PyTorch
`c10/cuda/CUDACachingAllocator.cpp`). An assumption until measured."""
CPU_PROCESS = 0.54 * GIB
"""Resident set of a worker with torch, transformers, trl and peft imported, measured on Linux."""
CPU_RUNTIME = 0.1 * GIB
"""Threads' arenas, oneDNN's buffers and Arrow's data that a training process adds, measured on Linux."""


def process_bytes(device: Literal["cuda", "cpu"]) -> float:
    """Return the bytes of a process that has done nothing yet but prepare."""
    return CPU_PROCESS + CPU_RUNTIME if device == "cpu" else CUDA_CONTEXT + CUBLAS_WORKSPACE


def lost_bytes(device: Literal["cuda", "cpu"], moving: float) -> float:
    """Return what the allocator cannot use of the memory it holds, where `moving` bytes come and go."""
    return FRAGMENTATION * moving if device == "cuda" else 0.0
