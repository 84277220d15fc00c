"""Hosts that are real as far as a network goes: a namespace each, with its own address, interface and ssh server.

They share this machine's files, as hosts with shared storage do. Commands that reach them run in a namespace of
their own (`Network.inside`). Needs root, iproute2 and openssh-server.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import bridge

if TYPE_CHECKING:
    from tests.bridge import Bridge

_numbers = itertools.count(1)

SSHD = """\
Port 22
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/id.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
MaxStartups 100
"""

CLIENT = """\
Host *
  IdentityFile {folder}/id
  IdentitiesOnly yes
  User root
  UserKnownHostsFile /dev/null
  StrictHostKeyChecking no
"""


@dataclass(frozen=True)
class Network:
    """A bridge in a namespace from which hosts are reached."""

    bridge: Bridge
    folder: Path
    """Keys and configuration of ssh."""
    hosts: dict[str, str]
    """Name to address."""

    @property
    def ssh_config(self) -> Path:
        """Configuration file for the client."""
        return self.folder / "ssh_config"

    def inside(self, *command: str) -> list[str]:
        """Return the command line that runs a command where the hosts can be reached from."""
        return self.bridge.inside(*command)

    def link(self, host: str, state: str) -> None:
        """Plug a host's cable in (`up`) or out (`down`)."""
        self.bridge.link(host, state)

    def processes(self, host: str, word: str) -> list[int]:
        """Return the pids of a host's processes with a word in their command line."""
        found = []
        for pid in bridge.pids(self.bridge.space(host)):
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if word in line:
                found.append(pid)
        return found


@contextmanager
def network(folder: Path, *names: str, number: int = 7, hiding: dict[str, Path] | None = None) -> Iterator[Network]:
    """Make hosts with these names in network `number`.

    `hiding` gives a host an empty folder of its own in place of one of this machine.
    """
    name = f"lf{os.getpid()}-{next(_numbers)}"
    servers: list[subprocess.Popen[bytes]] = []
    _write_keys(folder)
    try:
        addresses = {host: f"10.83.{number}.{last}" for last, host in enumerate(names, 11)}
        made = Network(bridge.make(name, f"10.83.{number}.1"), folder, addresses)
        for host, address in made.hosts.items():
            made.bridge.add(host, address)
            servers.append(_serve(made, host, (hiding or {}).get(host)))
        for address in made.hosts.values():
            _await_ssh(made, address)
        yield made
    except bridge.Refused as error:
        pytest.skip(str(error))
    finally:
        for server in servers:
            server.terminate()
            server.wait()
        bridge.remove(name)


def _serve(made: Network, name: str, hidden: Path | None) -> subprocess.Popen[bytes]:
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/bin:/sbin")
    assert sshd is not None
    Path("/run/sshd").mkdir(exist_ok=True)
    command = [sshd, "-D", "-e", "-f", str(made.folder / "sshd_config")]
    if hidden is not None:
        line = 'mount -t tmpfs none "$0" && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", line, str(hidden), *command]
    with (made.folder / f"sshd-{name}.log").open("wb") as log:
        return subprocess.Popen(["ip", "netns", "exec", made.bridge.space(name), *command], stdout=log, stderr=log)


def _write_keys(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("id", "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    (folder / "sshd_config").write_text(SSHD.format(folder=folder))
    (folder / "ssh_config").write_text(CLIENT.format(folder=folder))


def _await_ssh(made: Network, address: str) -> None:
    command = made.inside("ssh", "-F", str(made.ssh_config), "-o", "ConnectTimeout=2", address, "true")
    for _ in range(100):
        ended = subprocess.run(command, capture_output=True, text=True)
        if ended.returncode == 0:
            return
    raise AssertionError(f"no ssh server at {address}: {ended.stderr}")
