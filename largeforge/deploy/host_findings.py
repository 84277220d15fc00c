"""What stands in the way of using a host, from what it says of itself. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from largeforge.recipe.sections.hosts import Host

GIB = 2**30
LEAST_PYTHON = (3, 11)
"""Of environments that are built on a host, unless uv brings its own."""
LEAST_SYSTEMD = 245
MOST_CLOCK_S = 5.0
"""Certificates and traces are wrong from about here on."""
LEAST_DISK_GIB = 5.0


@dataclass(frozen=True)
class Finding:
    """One thing about a host, and what to do about it."""

    level: Literal["warning", "error"]
    text: str
    cure: str = ""

    def __str__(self) -> str:
        return f"{self.text}: {self.cure}" if self.cure else self.text


def findings(host: Host, machine: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what is wrong with a host for the roles that it has."""
    if machine["user"] != "root":
        cure = "allow it sudo, name its sudo_password, or connect as root (user: root)"
        yield Finding("error", f"{machine['user']} does not become root there", cure)
    if not machine["init"] or machine["systemd"] < LEAST_SYSTEMD:
        yield Finding(
            "error", f"systemd {machine['systemd'] or 'is not running'}", f"{LEAST_SYSTEMD} or newer is needed"
        )
    if not host.python:
        yield from _python(machine)
    if "rsync" not in machine["tools"] and host.has_role("serve"):
        yield Finding("error", "rsync is not there", "install it: models are brought with it")
    if "libnuma.so.1" not in machine["libraries"] and not machine["gpus"] and host.has_role("serve"):
        yield Finding("error", "libnuma.so.1 is not there", "install libnuma1 (numactl-libs): vLLM on a CPU loads it")
    if "openssl" not in machine["tools"]:
        cure = "install it, or deploy.tls.servers=off: hosts make their certificates with it"
        yield Finding("warning", "openssl is not there", cure)
    if "logrotate" not in machine["tools"]:
        yield Finding("warning", "logrotate is not there", "install it: logs grow without an end")
    if machine["disk_free_bytes"] < LEAST_DISK_GIB * GIB:
        yield Finding("warning", f"{machine['disk_free_bytes'] / GIB:.1f} GiB are free below {host.paths.root}")
    ahead = machine["clock_ahead_s"]
    if abs(ahead) > MOST_CLOCK_S + machine["answered_s"]:
        yield Finding(
            "warning", f"its clock is {abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}", "run an NTP client"
        )
    yield from _gpus(host, machine)


def _python(machine: Mapping[str, Any]) -> Iterator[Finding]:
    version = tuple(int(part) for part in str(machine["python"]).split(".")[:2])
    if version < LEAST_PYTHON and "uv" not in machine["tools"]:
        wanted = ".".join(map(str, LEAST_PYTHON))
        cure = f"install Python {wanted}, or uv, or name an interpreter with LargeForge (python: …)"
        yield Finding("error", f"its Python is {machine['python']}", cure)


def _gpus(host: Host, machine: Mapping[str, Any]) -> Iterator[Finding]:
    found = len(machine["gpus"])
    if machine["gpu_fault"]:
        yield Finding(
            "error", machine["gpu_fault"], "the driver is installed and does not work: reboot, or reinstall it"
        )
    elif host.gpus != "auto" and host.gpus > found:
        yield Finding(
            "error", f"the inventory gives it {host.gpus} GPUs, and {found} are there", "correct gpus:, or mend it"
        )
    for gpu in machine["gpus"]:
        taken = gpu["memory_bytes"] - gpu["free_bytes"]
        if taken > GIB:
            yield Finding("warning", f"GPU {gpu['index']}: {taken / GIB:.1f} GiB are taken by other programs")
