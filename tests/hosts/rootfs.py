"""The file system that all test hosts share: built once for each recipe of it, whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.hosts import build_rootfs

DEFAULT_MIRROR = "http://deb.debian.org/debian"


class NotBuilt(Exception):
    """The file system cannot be had: why."""


def cache() -> Path:
    """Return the folder in which file systems and hosts are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "largeforge-test-hosts"


def provide() -> Path:
    """Return the file system, built now if it is not there; raise NotBuilt if it cannot be."""
    key = hashlib.sha256(Path(build_rootfs.__file__).read_bytes()).hexdigest()[:12]
    root = cache() / f"rootfs-{key}"
    cache().mkdir(parents=True, exist_ok=True)
    with locked(cache() / f"{root.name}.lock") as lock:
        if not root.is_dir():
            begun = root.with_suffix(".begun")
            shutil.rmtree(begun, ignore_errors=True)  # of a build that was killed: its mounts ended with it
            _build(begun, lock)
            begun.rename(root)
    return root


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """Hold a lock, which the kernel lets go of with the last process that has it; give its descriptor."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _build(folder: Path, lock: int) -> None:
    """Build in namespaces that end with this process; the lock is held until all of it has ended."""
    alone = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--mount-proc", "--pid", "--fork", "--kill-child"]
    log = folder.with_suffix(".log")
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    command = [*alone, sys.executable, "-I", build_rootfs.__file__, str(folder), _mirror()]
    with log.open("wb") as output:
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=(lock,),
            env={**os.environ, "PATH": path, "LC_ALL": "C"},
        )  # fmt: skip
    if ended.returncode:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
        raise NotBuilt(f"the file system of the test hosts could not be built ({log}):\n{last}")


def _mirror() -> str:
    """Return the mirror from which this machine gets its own packages, if it has the hosts' Debian."""
    query = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]
    if shutil.which(query[0]):
        for line in subprocess.run(query, capture_output=True, text=True).stdout.splitlines():
            address, suite, component = ([*line.split(), "", "", ""])[:3]
            if (suite, component) == (build_rootfs.SUITE, "main"):
                return address
    return DEFAULT_MIRROR
