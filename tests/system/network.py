"""Hosts that are real as far as a network goes: a namespace each, with its own address, interface and ssh server.

They share this machine's files, as hosts with shared storage do. Commands that reach them run in a namespace of
their own (`Network.inside`). Needs root, iproute2 and openssh-server.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

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

    name: str
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
        return ["ip", "netns", "exec", self.name, *command]

    def link(self, host: str, state: str) -> None:
        """Plug a host's cable in (`up`) or out (`down`)."""
        _ip("-n", self.name, "link", "set", f"to-{host}", state)

    def processes(self, host: str, word: str) -> list[int]:
        """Return the pids of a host's processes with a word in their command line."""
        found = []
        for pid in _pids(f"{self.name}-{host}"):
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
    made = Network(
        f"lf{os.getpid()}-{next(_numbers)}", folder,
        {name: f"10.83.{number}.{last}" for last, name in enumerate(names, 11)},
    )  # fmt: skip
    servers: list[subprocess.Popen[bytes]] = []
    _write_keys(folder)
    refused = subprocess.run(["ip", "netns", "add", made.name], capture_output=True, text=True).stderr.strip()
    if refused:
        pytest.skip(f"network namespaces cannot be made here: {refused}")
    try:
        _ip("-n", made.name, "link", "set", "lo", "up")
        _ip("-n", made.name, "link", "add", "br0", "type", "bridge")
        _ip("-n", made.name, "addr", "add", f"10.83.{number}.1/24", "dev", "br0")
        _ip("-n", made.name, "link", "set", "br0", "up")
        for name, address in made.hosts.items():
            _add_host(made, name, address)
            servers.append(_serve(made, name, (hiding or {}).get(name)))
        for address in made.hosts.values():
            _await_ssh(made, address)
        yield made
    finally:
        for server in servers:
            server.terminate()
            server.wait()
        for name in (*(f"{made.name}-{name}" for name in names), made.name):
            for pid in _pids(name):
                os.kill(pid, signal.SIGKILL)
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def _add_host(made: Network, name: str, address: str) -> None:
    space = f"{made.name}-{name}"
    _ip("netns", "add", space)
    _ip("-n", space, "link", "set", "lo", "up")
    _ip("-n", made.name, "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", space)
    _ip("-n", made.name, "link", "set", f"to-{name}", "master", "br0", "up")
    _ip("-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
    _ip("-n", space, "link", "set", "eth0", "up")


def _serve(made: Network, name: str, hidden: Path | None) -> subprocess.Popen[bytes]:
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/bin:/sbin")
    assert sshd is not None
    Path("/run/sshd").mkdir(exist_ok=True)
    command = [sshd, "-D", "-e", "-f", str(made.folder / "sshd_config")]
    if hidden is not None:
        line = 'mount -t tmpfs none "$0" && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", line, str(hidden), *command]
    with (made.folder / f"sshd-{name}.log").open("wb") as log:
        return subprocess.Popen(["ip", "netns", "exec", f"{made.name}-{name}", *command], stdout=log, stderr=log)


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


def _pids(space: str) -> list[int]:
    listed = subprocess.run(["ip", "netns", "pids", space], capture_output=True, text=True)
    return [int(word) for word in listed.stdout.split()]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
