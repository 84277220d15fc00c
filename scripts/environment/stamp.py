"""The stamp inside an environment: what it was made from, so that the next set-up knows in a moment."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from scripts.environment import pins

if TYPE_CHECKING:
    from pathlib import Path

NAME = "largeforge-setup.json"


@dataclass(frozen=True)
class Stamp:
    """What an environment was made from."""

    device: str
    python: str
    pins: str
    """Digest of the pinned requirements."""
    project: str
    """Digest of what an editable install reads: pyproject.toml and the version."""
    venv: str
    """Where the environment was made: its scripts hold this path."""


def wanted(root: Path, venv: Path, *, device: str, python: str) -> Stamp:
    """Return the stamp that an up-to-date environment has."""
    project = (root / "pyproject.toml").read_bytes() + (root / "largeforge" / "__init__.py").read_bytes()
    return Stamp(
        device=device,
        python=python,
        pins=pins.digest(root / "requirements" / f"{device}.txt"),
        project=hashlib.sha256(project + str(root).encode()).hexdigest(),
        venv=str(venv),
    )


def read(venv: Path) -> Stamp | None:
    """Return the stamp of an environment; None where there is none or a set-up was interrupted."""
    try:
        return Stamp(**json.loads((venv / NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write(venv: Path, stamp: Stamp) -> None:
    """Write the stamp, atomically: it is the last thing that a set-up does."""
    temporary = venv / f".{NAME}"
    temporary.write_text(json.dumps(asdict(stamp), indent=2) + "\n", encoding="utf-8")
    temporary.replace(venv / NAME)


def python_of(venv: Path) -> str:
    """Return the version of the Python that an environment belongs to, empty if it is none or its Python is gone."""
    try:
        text = (venv / "pyvenv.cfg").read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(r"^version\s*=\s*(\S+)", text, re.MULTILINE)
    return found[1] if found and (venv / "bin" / "python").exists() else ""
