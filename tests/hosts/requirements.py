"""What this machine must be and have to run test hosts."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

from scripts.tiers import system_packages

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def lacking() -> str:
    """Return why test hosts cannot run on this machine; empty if nothing is known to be in their way."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return f"test hosts need Linux on x86_64, this is {platform.system()} on {platform.machine()}"
    if os.geteuid() != 0:
        return "test hosts need root: namespaces, mounts and control groups are made"
    if missing := system_packages.missing_for("hosts"):
        names = " ".join(package.name for package in missing)
        return f"test hosts need packages of the operating system: {names} (scripts/test --all installs them)"
    if not KEYRING.is_file():
        return f"test hosts need Debian: without {KEYRING} its packages cannot be verified"
    tried = subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", "true"], capture_output=True, text=True)
    if tried.returncode:
        return f"test hosts need namespaces, which are refused here: {tried.stderr.strip()}"
    return ""


def lacking_overlay(folder: Path) -> str:
    """Return why a file system cannot be laid over another in this folder; empty if it can."""
    parts = [folder / name for name in ("lower", "upper", "work", "merged")]
    for part in parts:
        part.mkdir(parents=True, exist_ok=True)
    layers = f"lowerdir={parts[0]},upperdir={parts[1]},workdir={parts[2]}"
    mount = ["mount", "-t", "overlay", "overlay", "-o", layers, str(parts[3])]
    tried = subprocess.run(["unshare", "--mount", *mount], capture_output=True, text=True)
    shutil.rmtree(folder)
    refused = f"test hosts need overlayfs, which is refused in {folder.parent}: {tried.stderr.strip()}"
    return refused if tried.returncode else ""
