"""The most memory that this process has held."""

from __future__ import annotations

import resource


def peak_memory_bytes(device: str) -> float:
    """Return what torch reserved of a GPU at most, or what was resident on a CPU."""
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
    import torch

    return float(torch.cuda.max_memory_reserved())
