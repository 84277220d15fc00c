"""Keys of the test hosts and of those who come to them, and what an ssh client is told of both."""

from __future__ import annotations

import subprocess
from pathlib import Path

CLIENT = """\
Host *
  IdentityFile {folder}/id
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  ConnectTimeout 5
  LogLevel ERROR
  User deploy
"""


def generate(path: Path) -> str:
    """Make a pair of keys in place of one that may be there; return the public one."""
    path.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text()


def write_client(folder: Path, addresses: dict[str, str], host_keys: dict[str, str]) -> None:
    """Write `ssh_config` and `known_hosts` for hosts with these names; `folder` has the client's key, `id`."""
    sections = [f"Host {name}\n  HostName {address}\n" for name, address in addresses.items()]
    (folder / "ssh_config").write_text("".join([*sections, CLIENT.format(folder=folder)]))
    known = [f"{name},{address} {host_keys[name]}" for name, address in addresses.items()]
    (folder / "known_hosts").write_text("".join(known))
