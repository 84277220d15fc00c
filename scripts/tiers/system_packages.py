"""The operating system's packages that some tests want: which, which are missing, how to get them."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

LIST = Path(__file__).resolve().parents[1] / "system-packages.txt"


@dataclass(frozen=True)
class Package:
    """A Debian package, a command that it brings, what it is for, and the tiers that need it."""

    name: str
    command: str
    purpose: str
    tiers: frozenset[str] = frozenset()


def read(path: Path = LIST) -> list[Package]:
    """Return the packages of the list."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    fields = (line.split(maxsplit=3) for line in lines if line and not line.startswith("#"))
    return [Package(name, command, purpose, frozenset(tiers.split(","))) for tiers, name, command, purpose in fields]


def missing_for(*tiers: str) -> list[Package]:
    """Return the packages that these tiers lack."""
    return missing([package for package in read() if not package.tiers.isdisjoint(tiers)])


def missing(packages: list[Package]) -> list[Package]:
    """Return the packages whose command is not on PATH, where servers' commands may be too."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    return [package for package in packages if shutil.which(package.command, path=path) is None]


def install(packages: list[Package]) -> str:
    """Install the packages with apt; return why that is impossible, or an empty string."""
    names = [package.name for package in packages]
    if shutil.which("apt-get") is None:
        return f"there is no apt-get here; install what corresponds to: {' '.join(names)}"
    if os.geteuid() != 0:
        return f"not root; run: sudo apt-get install {' '.join(names)}"
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    options = ["-qq", "-o", "DPkg::Lock::Timeout=120"]
    for argv in (["update"], ["install", "--yes", "--no-install-recommends", *names]):
        ended = subprocess.run(["apt-get", *options, *argv], env=environ, capture_output=True, text=True)
    if ended.returncode:
        return f"apt-get failed: {(ended.stderr or ended.stdout).strip()[-800:]}"
    still = missing(packages)
    return f"installed, but no such command: {', '.join(package.command for package in still)}" if still else ""
