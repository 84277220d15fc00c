"""What runs on hosts: single files that need nothing but the host's own Python."""

from __future__ import annotations

from pathlib import Path


def source() -> str:
    """Return the text of the file that builds, lists and removes environments on a host."""
    return (Path(__file__).parent / "build_environment.py").read_text(encoding="utf-8")
