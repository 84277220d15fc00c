"""A bridge in a network namespace of its own, and hosts plugged into it: a namespace each, with an address.

Needs root and iproute2. Whatever lives in the namespaces is killed when they are removed.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass


class Refused(Exception):
    """This machine does not allow network namespaces."""


@dataclass(frozen=True)
class Bridge:
    """Hosts that reach each other, and the namespace from which they are reached."""

    name: str
    """Name of that namespace; those of the hosts begin with it."""

    def inside(self, *command: str) -> list[str]:
        """Return the command line that runs a command where the hosts can be reached from."""
        return ["ip", "netns", "exec", self.name, *command]

    def space(self, host: str) -> str:
        """Return the name of a host's namespace."""
        return f"{self.name}-{host}"

    def port(self, host: str) -> str:
        """Return the name of the interface, on the bridge, to which a host is plugged."""
        return f"to-{host}"

    def add(self, host: str, address: str) -> None:
        """Plug in one more host."""
        space = self.space(host)
        ip("netns", "add", space)
        ip("-n", space, "link", "set", "lo", "up")
        ip("-n", self.name, "link", "add", self.port(host), "type", "veth", "peer", "name", "eth0", "netns", space)
        ip("-n", self.name, "link", "set", self.port(host), "master", "br0", "up")
        ip("-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
        ip("-n", space, "link", "set", "eth0", "up")

    def link(self, host: str, state: str) -> None:
        """Plug a host's cable in (`up`) or out (`down`)."""
        ip("-n", self.name, "link", "set", self.port(host), state)


def make(name: str, address: str) -> Bridge:
    """Make a bridge with an address, the first of its network; raise Refused where that is impossible."""
    refused = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True).stderr.strip()
    if refused:
        raise Refused(f"network namespaces cannot be made here: {refused}")
    ip("-n", name, "link", "set", "lo", "up")
    ip("-n", name, "link", "add", "br0", "type", "bridge")
    ip("-n", name, "addr", "add", f"{address}/24", "dev", "br0")
    ip("-n", name, "link", "set", "br0", "up")
    return Bridge(name)


def remove(name: str) -> None:
    """Remove a bridge and its hosts, with all processes in their namespaces; none of them need exist."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    spaces = [line.split()[0] for line in listed.splitlines() if line.strip()]
    for space in (space for space in spaces if space == name or space.startswith(f"{name}-")):
        for pid in pids(space):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", space], capture_output=True)


def pids(space: str) -> list[int]:
    """Return the processes in a namespace."""
    listed = subprocess.run(["ip", "netns", "pids", space], capture_output=True, text=True)
    return [int(word) for word in listed.stdout.split()]


def ip(*words: str) -> None:
    """Run `ip`, which must succeed."""
    subprocess.run(["ip", *words], check=True)
