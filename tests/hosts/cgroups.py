"""Control groups of a test host, one in every hierarchy: two systemds must never share one.

With them all its processes can be found, limited and killed. Knows version 1, version 2, and both at once.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
CONTROLLERS = ("memory", "cpu", "pids")
"""Those that limits of units need."""


def places(name: str) -> list[Path]:
    """Return where the groups of a host with this name are: below those of this process."""
    found = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers and not (MOUNT / "unified").is_dir():
            found.append(MOUNT / name)  # version 2 alone: a group with processes cannot have limited children
            continue
        mount = MOUNT / (controllers.removeprefix("name=") or "unified")
        if mount.is_dir():
            found.append(mount / path.lstrip("/") / name)
    return found


def create(groups: list[Path]) -> None:
    """Make the groups."""
    for group in groups:
        if (group.parent / "cgroup.controllers").is_file():
            for controller in CONTROLLERS:
                with suppress(OSError):  # on there already, or in a hierarchy of version 1
                    (group.parent / "cgroup.subtree_control").write_text(f"+{controller}")
        group.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            if group.parts[4] == "cpuset":  # empty in a new group, which then takes no process
                (group / name).write_text((group.parent / name).read_text())


def lacking(groups: list[Path]) -> list[str]:
    """Return the controllers that limit nothing in these groups."""
    files = {"memory": ("limit_in_bytes", "max"), "cpu": ("cfs_quota_us", "max"), "pids": ("max",)}
    return [
        name for name, ends in files.items()
        if not any((group / f"{name}.{end}").exists() for group in groups for end in ends)
    ]  # fmt: skip


def join(groups: list[Path], pid: int) -> None:
    """Put a process into the groups."""
    for group in groups:
        (group / "cgroup.procs").write_text(str(pid))


def limit(groups: list[Path], *, memory_mib: int | None, cpus: float | None) -> None:
    """Set what the host has at most, of memory and of processors."""
    wanted: dict[str, str] = {}
    if memory_mib is not None:
        wanted |= dict.fromkeys(("memory.limit_in_bytes", "memory.max"), str(memory_mib * 2**20))
    if cpus is not None:
        wanted |= {"cpu.cfs_quota_us": str(int(cpus * 100_000)), "cpu.max": f"{int(cpus * 100_000)} 100000"}
    for file, value in wanted.items():
        for group in (group for group in groups if (group / file).exists()):
            (group / file).write_text(value)


def kill(groups: list[Path], *, timeout_s: float = 20) -> None:
    """Kill all processes in the groups and wait for their end."""
    deadline = time.monotonic() + timeout_s
    while found := _pids(groups):
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise TimeoutError(f"killed, but still there: {sorted(found)}")
        time.sleep(0.02)


def remove(groups: list[Path], *, timeout_s: float = 10) -> None:
    """Remove the groups, with those that the host made below, as soon as the kernel lets go of them."""
    deadline = time.monotonic() + timeout_s
    while any(group.is_dir() for group in groups):
        for group in groups:
            for below in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
                with suppress(OSError):
                    below.rmdir()
            with suppress(OSError):
                group.rmdir()
        if time.monotonic() > deadline:
            raise TimeoutError(f"cannot be removed: {[str(group) for group in groups if group.is_dir()]}")
        time.sleep(0.02)


def _pids(groups: list[Path]) -> set[int]:
    found: set[int] = set()
    for group in groups:
        for file in (group / "cgroup.procs", *group.rglob("cgroup.procs")):
            with suppress(OSError):  # gone, with its last process
                found.update(int(line) for line in file.read_text().split() if line != "0")
    return found
