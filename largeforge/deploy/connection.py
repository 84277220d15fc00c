"""How each host of an inventory is reached: command lines, and a configuration of ssh that OpenSSH and pyinfra read.

No secret is in the configuration. A host that is reached through another names it as its jump host.
"""

from __future__ import annotations

import shlex
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from largeforge.cluster import ssh

if TYPE_CHECKING:
    from collections.abc import Iterator

    from largeforge.recipe.sections.hosts import Host, Hosts

CONNECT_TIMEOUT_S = 10
LOST_AFTER_S = 30
"""Silence after which a connection counts as lost."""


@dataclass(frozen=True)
class Reach:
    """One host, and the configuration of ssh to reach it with."""

    name: str
    host: Host
    config: Path
    checking: str = "accept-new"
    """What happens to the key of a host that is not known yet."""

    def command(self, argv: list[str], *, root: bool = False) -> list[str]:
        """Return the command line that runs `argv` there; with `root` through sudo where that is needed."""
        words = [*self.sudo, *argv] if root else argv
        key = ["-i", str(Path(self.host.key).expanduser())] if self.host.key else []
        target = ssh.Target(self.host.address, self.host.user, self.host.port, str(self.config))
        return ssh.command(target, words, lost_after_s=LOST_AFTER_S, options=key)

    @property
    def sudo(self) -> list[str]:
        """Words before a command that needs root; a password is read from the first line of its input."""
        if not self.host.sudo or self.host.user == "root" or self.host.is_local:
            return []
        return ["sudo", "-k", "-S", "-p", "", "--"] if self.host.sudo_password else ["sudo", "-n", "--"]

    @property
    def rsync_shell(self) -> str:
        """Return ssh as rsync's `-e` wants it."""
        words = self.command(["true"])
        return shlex.join(words[: words.index("--")])

    def for_pyinfra(self) -> dict[str, object]:
        """Return the host's data for pyinfra's connector, without the password for sudo."""
        host = self.host
        given = {
            "ssh_hostname": host.address,
            "ssh_user": host.user,
            "ssh_port": host.port,
            "ssh_key": str(Path(host.key).expanduser()) if host.key else "",
        }
        uses_sudo = bool(self.sudo)
        return {
            **{key: value for key, value in given.items() if value},
            "ssh_config_file": str(self.config),
            "ssh_strict_host_key_checking": self.checking,
            "_sudo": uses_sudo,
        }


@contextmanager
def reaches(inventory: Hosts, names: list[str] | None = None) -> Iterator[dict[str, Reach]]:
    """Write the configuration of ssh to a private folder, and yield how each host is reached by name."""
    with TemporaryDirectory(prefix="largeforge-ssh-") as folder:
        config = Path(folder) / "config"
        config.write_text(configuration(inventory), encoding="utf-8")
        wanted = inventory.hosts if names is None else {name: inventory.hosts[name] for name in names}
        yield {name: Reach(name, host, config, inventory.host_key_checking) for name, host in wanted.items()}


def configuration(inventory: Hosts) -> str:
    """Return the text of the configuration; your own comes last, so that it fills in what the inventory leaves open."""
    blocks = [_block(host, inventory) for host in inventory.hosts.values() if host.jump]
    own = inventory.ssh_config or "~/.ssh/config"
    common = [
        "Host *",
        f"  StrictHostKeyChecking {inventory.host_key_checking}",
        f"  ConnectTimeout {CONNECT_TIMEOUT_S}",
    ]
    if inventory.known_hosts:
        common.append(f"  UserKnownHostsFile {Path(inventory.known_hosts).expanduser().absolute()}")
    path = Path(own).expanduser().absolute()
    if path.is_file():
        common.append(f"  Include {path}")
    return "\n".join([*blocks, *common, ""])


def _block(host: Host, inventory: Hosts) -> str:
    """Return how a host behind another is reached, and how that one is."""
    lines = [f"Host {host.address}"]
    through = inventory.hosts.get(host.jump)
    if through is None:
        return "\n".join([*lines, f"  ProxyJump {host.jump}"])
    user = f"{through.user}@" if through.user else ""
    port = f":{through.port}" if through.port else ""
    lines.append(f"  ProxyJump {user}{through.address}{port}")
    if through.key:
        lines += [f"Host {through.address}", f"  IdentityFile {Path(through.key).expanduser()}"]
    return "\n".join(lines)
