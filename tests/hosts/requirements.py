"""What this machine must be and have to run test hosts."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

COMMANDS = {
    "debootstrap": "debootstrap", "ip": "iproute2", "tc": "iproute2", "ssh": "openssh-client",
    "ssh-keygen": "openssh-client", "rsync": "rsync", "unshare": "util-linux", "nsenter": "util-linux",
    "setpriv": "util-linux",
}  # fmt: skip
"""Each with the Debian package that brings it."""

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def lacking() -> str:
    """Return why test hosts cannot run on this machine; empty if nothing is known to be in their way."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return f"test hosts need Linux on x86_64, this is {platform.system()} on {platform.machine()}"
    if os.geteuid() != 0:
        return "test hosts need root: namespaces, mounts and control groups are made"
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    missing = sorted({package for command, package in COMMANDS.items() if not shutil.which(command, path=path)})
    if missing:
        return f"test hosts need packages of the operating system: {' '.join(missing)}"
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
    return f"test hosts need overlayfs, which is refused in {folder.parent}: {tried.stderr.strip()}" if tried.returncode else ""
