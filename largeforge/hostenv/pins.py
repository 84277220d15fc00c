"""The pinned packages of a host's role, as `requirements/` lists them. Standard library only, for `scripts/setup`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from largeforge.errors import Problem, RecipeError, listed, nearest

ROLES = {"gateway": "gateway", "serve": "{device}", "train": "{device}"}
"""Role of a host to the file under `requirements/` that lists what it needs.

Serving and training share one list: the packages of both were resolved together, and a host that does both has one
environment.
"""
DEVICES = ("cpu", "cuda")
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
"""PyTorch's own index of CPU builds (https://pytorch.org/get-started/locally)."""
INSTALLER = "installer"
"""File with the pip that a bundle carries."""
_PIN = re.compile(r"([\w.-]+)={2,3}([\w.+!-]+)(?:\s*;\s*(.+))?")


@dataclass(frozen=True)
class Pin:
    """One line of a requirements file."""

    name: str
    version: str
    line: str
    marker: str = ""
    """Where it is needed, as `platform_machine == "x86_64"`; empty means everywhere."""


def requirements(role: str, device: str) -> tuple[Pin, ...]:
    """Return everything that a host needs for a role, besides LargeForge itself.

    Raises RecipeError for a role or a device that there is not.
    """
    for key, given, allowed in (("role", role, tuple(ROLES)), ("device", device, DEVICES)):
        if given not in allowed:
            rule = f"is not known; there is: {listed(allowed)}."
            raise RecipeError([Problem(key, rule, given=given, nearest=nearest(given, allowed))])
    return tuple(read(folder() / f"{ROLES[role].format(device=device)}.txt"))


def installer() -> Pin:
    """Return the pip that a bundle carries."""
    (pin,) = read(folder() / f"{INSTALLER}.txt")
    return pin


def folder() -> Path:
    """Return the folder of the lists: shipped with an installed LargeForge, beside the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    shipped = package / "shipped"
    return (shipped if shipped.is_dir() else package.parent) / "requirements"


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
        match = _PIN.fullmatch(line)
        if match is None:
            raise ValueError(f"{path.name}:{number}: not a pinned requirement: {line}")
        pins.append(Pin(normal(match[1]), match[2], line, match[3] or ""))
    return pins


def normal(name: str) -> str:
    """Return a package's name as the package index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
