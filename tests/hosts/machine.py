"""One test host: a Debian that boots systemd in a container, with its own disk, address and ssh server."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.hosts import cgroups, keys, supervisor

if TYPE_CHECKING:
    from tests.bridge import Bridge

BOOTED = ("running", "degraded")
POWER_OFF = signal.SIGRTMIN + 4
"""What systemd takes for pressing the button (systemd(1), SIGNALS)."""


@dataclass(frozen=True)
class Hardware:
    """What a host has."""

    bind: Mapping[str, str] = field(default_factory=dict)
    """Folders and files of this machine, to where the host sees them, read-only."""
    share: Mapping[str, str] = field(default_factory=dict)
    """The same, and the host may write there: what stands for shared storage."""
    small: Mapping[str, int] = field(default_factory=dict)
    """Folders of the host that are file systems of their own, to their size in MiB."""
    memory_mib: int | None = None
    cpus: float | None = None


@dataclass
class Machine:
    """One host; `power_on` before anything else."""

    name: str
    address: str
    rootfs: Path
    """The file system that it shares with others, and does not change."""
    folder: Path
    """Its own files: `upper` (what it changed), `merged` (its disk as it sees it), `console.log`."""
    bridge: Bridge
    hardware: Hardware
    groups: list[Path]
    """Its control groups."""
    mend: dict[str, Callable[[], None]] = field(default_factory=dict)
    """How to undo the faults that the host has at present."""
    _supervisor: subprocess.Popen[bytes] | None = None

    @property
    def disk(self) -> Path:
        """Where this machine sees the host's disk, whether the host is on or off."""
        return self.folder / "merged"

    @property
    def host_key(self) -> Path:
        """Where the host keeps its private key."""
        return self.disk / "etc/ssh/ssh_host_ed25519_key"

    def small(self, path: str) -> Path:
        """Return where this machine sees a small file system of the host."""
        return self.folder / f"small-{list(self.hardware.small).index(path)}"

    def power_on(self) -> None:
        """Boot, and return when systemd says that it has booted."""
        self.start()
        self.await_boot()

    def start(self) -> None:
        """Begin to boot."""
        cgroups.create(self.groups)
        cgroups.limit(self.groups, memory_mib=self.hardware.memory_mib, cpus=self.hardware.cpus)
        command = [sys.executable, "-I", "-S", supervisor.__file__, str(self.folder / "console.log"), *self._nspawn()]
        environ = {**os.environ, "SYSTEMD_NSPAWN_TMPFS_TMP": "0"}
        started = subprocess.Popen(command, stdin=subprocess.PIPE, env=environ, start_new_session=True)
        assert started.stdin is not None
        cgroups.join(self.groups, started.pid)
        started.stdin.write(b"go\n")
        started.stdin.flush()
        self._supervisor = started

    def await_boot(self, *, not_pid: int = 0, timeout_s: float = 60) -> None:
        """Wait until systemd has started everything; `not_pid` is the systemd from before a reboot."""
        deadline = time.monotonic() + timeout_s
        while True:
            if (pid := self.pid) not in (0, not_pid) and self.state(pid, timeout_s=timeout_s) in BOOTED:
                return
            if time.monotonic() > deadline or self._supervisor is None or self._supervisor.poll() is not None:
                said = (self.folder / "console.log").read_text(errors="replace")[-2000:]
                raise AssertionError(f"{self.name} does not boot:\n{said}")
            time.sleep(0.05)

    def state(self, pid: int, *, timeout_s: float = 60) -> str:
        """Return what systemd says of itself, once it has booted; empty if it cannot be asked, or takes too long."""
        argv = ["nsenter", "--all", "--target", str(pid), "systemctl", "is-system-running", "--wait"]
        with suppress(subprocess.TimeoutExpired):
            return subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s).stdout.strip()
        return ""

    @property
    def pid(self) -> int:
        """The host's process 1 as this machine sees it; 0 while the host is off or only begins to boot."""
        if self._supervisor is None or self._supervisor.poll() is not None:
            return 0
        for nspawn in _children(self._supervisor.pid):
            for pid in _children(nspawn):
                with suppress(OSError):
                    if Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
                        return pid
        return 0

    def enter(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command on the host as root, without its network."""
        assert self.pid, f"{self.name} is off"
        argv = ["nsenter", "--all", "--target", str(self.pid), *command]
        return subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)

    def power_off(self, *, hard: bool = False, timeout_s: float = 60) -> None:
        """Shut down, or (`hard`) cut the power: whatever runs ends at once. The disk is kept."""
        if (pid := self.pid) and self._supervisor is not None:
            os.kill(pid, signal.SIGKILL if hard else POWER_OFF)
            self._supervisor.wait(timeout_s)
        self.reap()

    def reap(self) -> None:
        """Kill whatever is left of a host, and forget its supervisor."""
        cgroups.kill(self.groups)
        if self._supervisor is not None:
            self._supervisor.wait()
            if self._supervisor.stdin is not None:
                self._supervisor.stdin.close()
        self._supervisor = None

    def reboot(self) -> None:
        """Boot again, as `systemctl reboot` does; return when that is done."""
        before = self.pid
        self.enter("systemctl", "reboot")
        self.await_boot(not_pid=before)

    def assemble(self, *, known: str, client: Path) -> None:
        """Put the disk together and write on it what differs from host to host; nothing runs yet.

        `known` is the text of /etc/hosts, `client` the key of those who may log in.
        """
        for name in ("upper", "work", "merged"):
            (self.folder / name).mkdir(parents=True)
        layers = f"lowerdir={self.rootfs},upperdir={self.folder / 'upper'},workdir={self.folder / 'work'}"
        _call("mount", "-t", "overlay", "overlay", "-o", layers, str(self.disk))
        for path, size_mib in self.hardware.small.items():
            self.small(path).mkdir()
            _call("mount", "-t", "tmpfs", "-o", f"size={size_mib}m,mode=1777", "tmpfs", str(self.small(path)))
        (self.disk / "etc/hosts").write_text(known)
        (self.disk / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
        keys.generate(self.host_key)
        for home in ("root", "home/deploy", "home/asks"):
            self._authorize(self.disk / home, client)

    def _authorize(self, home: Path, client: Path) -> None:
        owner = home.stat()
        folder = home / ".ssh"
        folder.mkdir(mode=0o700, exist_ok=True)
        shutil.copy(client.with_suffix(".pub"), folder / "authorized_keys")
        for path in (folder, folder / "authorized_keys"):
            os.chown(path, owner.st_uid, owner.st_gid)

    def _nspawn(self) -> list[str]:
        """Return the command that boots the host, with the shared file system's own programs and libraries."""
        libraries = self.rootfs / "usr/lib/x86_64-linux-gnu"
        binds = [f"--bind-ro={source}:{target}" for source, target in self.hardware.bind.items()]
        binds += [f"--bind={source}:{target}" for source, target in self.hardware.share.items()]
        binds += [f"--bind={self.small(path)}:{path}" for path in self.hardware.small]
        return [
            str(self.rootfs / "lib64/ld-linux-x86-64.so.2"), "--argv0", "systemd-nspawn",
            "--library-path", f"{libraries}:{libraries}/systemd", str(self.rootfs / "usr/bin/systemd-nspawn"),
            "--quiet", f"--directory={self.disk}", f"--machine={self.bridge.space(self.name)}",
            f"--hostname={self.name}", "--register=no", "--keep-unit", "--resolv-conf=off", "--timezone=off",
            f"--network-namespace-path=/run/netns/{self.bridge.space(self.name)}", "--link-journal=no",
            "--capability=CAP_NET_ADMIN", "--console=read-only", *binds, "/usr/local/sbin/boot",
        ]  # fmt: skip


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _call(*command: str) -> None:
    subprocess.run(command, check=True)
