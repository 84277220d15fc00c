"""Test hosts on one network: real machines as far as systemd, ssh, disks and cables go, gone when they end.

    with machines(3) as hosts:
        hosts.run(hosts["h1"], "systemctl", "status")

Commands that reach them run in a namespace of their own (`Machines.inside`). The hosts have no way out.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import bridge
from tests.bridge import Bridge
from tests.hosts import cgroups, keys, leftovers, requirements, rootfs
from tests.hosts.machine import Hardware, Machine

NETWORK = "10.84.0"
"""Nobody else sees it: each bridge is in a namespace."""

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Machines:
    """Hosts `h1`, `h2` … and the place from which they are reached."""

    bridge: Bridge
    folder: Path
    """What an ssh client needs: `ssh_config`, `known_hosts` and the key `id`."""
    all: tuple[Machine, ...]

    def __iter__(self) -> Iterator[Machine]:
        return iter(self.all)

    def __getitem__(self, name: str) -> Machine:
        return next(machine for machine in self.all if machine.name == name)

    @property
    def ssh_config(self) -> Path:
        """Configuration of the client: hosts by name or address, as `deploy`, with strictly checked host keys."""
        return self.folder / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        """The keys of the hosts."""
        return self.folder / "known_hosts"

    @property
    def key(self) -> Path:
        """The private key with which root, `deploy` and `asks` log in."""
        return self.folder / "id"

    def inside(self, *command: str) -> list[str]:
        """Return the command line that runs a command where the hosts can be reached from."""
        return self.bridge.inside(*command)

    def ssh(self, machine: Machine, *command: str, user: str = "root") -> list[str]:
        """Return the command line that runs a command on a host."""
        words = ["ssh", "-F", str(self.ssh_config), f"{user}@{machine.name}", "--", shlex.join(command)]
        return self.inside(*words)

    def run(self, machine: Machine, *command: str, user: str = "root") -> subprocess.CompletedProcess[str]:
        """Run a command on a host, over ssh."""
        argv = self.ssh(machine, *command, user=user)
        return subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)

    def journal(self, machine: Machine, unit: str) -> str:
        """Return what a unit has logged since the host was made."""
        return machine.enter("journalctl", "--no-pager", "--output=short-iso", f"--unit={unit}").stdout


@contextmanager
def machines(
    number: int,
    *,
    bind: Mapping[str, str] | None = None,
    share: Mapping[str, str] | None = None,
    small: Mapping[str, int] | None = None,
    memory_mib: int | None = None,
    cpus: float | None = None,
) -> Iterator[Machines]:
    """Boot hosts and remove them at the end; skip the test where that is impossible, and say why.

    The arguments are what each host has (`Hardware`).
    """
    base = rootfs.cache() / "running"
    if reason := requirements.lacking():
        pytest.skip(reason)
    hardware = Hardware(bind or {}, share or {}, small or {}, memory_mib, cpus)
    with leftovers.claimed(base) as folder:
        if reason := requirements.lacking_overlay(folder / "overlay"):
            pytest.skip(reason)
        made: Machines | None = None
        try:
            made = _plug_in(folder, number, rootfs.provide(), hardware)
            _boot(made)
            yield made
        except bridge.Refused as error:
            pytest.skip(str(error))
        finally:
            for machine in made or ():
                machine.reap()


def this_python() -> dict[str, str]:
    """Return what to lend a host so that it can run this Python, its packages and this checkout at the same paths."""
    base = Path(sys.base_prefix)
    wanted = {Path(sys.prefix), base, base.resolve(), ROOT}
    usr = {path for path in wanted if path == Path("/usr")}
    outermost = [path for path in wanted - usr if not any(other in path.parents for other in wanted)]
    return {str(path): str(path) for path in sorted(outermost)}


def _plug_in(folder: Path, number: int, root: Path, hardware: Hardware) -> Machines:
    """Make the network, and hosts that are switched off."""
    names = {f"h{index}": f"{NETWORK}.{10 + index}" for index in range(1, number + 1)}
    made = Bridge(folder.name)
    hosts = tuple(
        Machine(name, address, root, folder / name, made, hardware, cgroups.places(made.space(name)))
        for name, address in names.items()
    )
    (folder / "cgroups").write_text("".join(f"{group}\n" for host in hosts for group in host.groups))
    keys.generate(folder / "id")
    bridge.make(made.name, f"{NETWORK}.1")
    known = "".join(f"{address} {name}\n" for name, address in {"localhost": "127.0.0.1", **names}.items())
    for host in hosts:
        made.add(host.name, host.address)
        host.assemble(known=known, client=folder / "id")
    public = {host.name: host.host_key.with_suffix(".pub").read_text() for host in hosts}
    keys.write_client(folder, names, public)
    return Machines(made, folder, hosts)


def _boot(made: Machines) -> None:
    for machine in made:
        machine.start()
    if missing := cgroups.lacking(made.all[0].groups):
        pytest.skip(f"test hosts need control groups for {', '.join(missing)}, which cannot be made here")
    for machine in made:
        machine.await_boot()
