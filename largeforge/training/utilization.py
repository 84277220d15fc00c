"""How busy the GPU is."""

from __future__ import annotations


def gpu_utilization(device: str) -> float | None:
    """Return the share of the last moment in which a kernel ran, as the driver tells it; None where it does not.

    Reading it takes NVIDIA's `pynvml`, which vLLM for CUDA brings.
    """
    if device != "cuda":
        return None
    import torch

    try:
        return float(torch.cuda.utilization()) / 100
    except (ImportError, RuntimeError):
        return None
