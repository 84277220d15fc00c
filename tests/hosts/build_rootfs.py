"""Build the file system of the test hosts: a small Debian with systemd, an ssh server and three users.

A program of its own (`build_rootfs.py FOLDER MIRROR`), so that it can run in namespaces that end, mounts and
processes included, when its parent does. Everything that makes up the file system is said in this file: its
text is the key under which the result is kept.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SUITE = "bookworm"
PACKAGES = (
    "systemd", "systemd-sysv", "systemd-container", "dbus", "openssh-server", "iproute2", "python3", "python3-venv",
    "rsync", "sudo", "nftables", "curl", "ca-certificates", "procps", "logrotate", "libnuma1", "prometheus",
    "prometheus-alertmanager", "prometheus-node-exporter", "rsyslog",
)  # fmt: skip
"""`systemd-container` brings the systemd-nspawn that boots the hosts, so that this machine needs none."""

NOT_UNPACKED = ("/usr/share/doc", "/usr/share/man", "/usr/share/info", "/usr/share/locale")
MASKED = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "fstrim.timer", "console-getty.service",
    "prometheus.service", "prometheus-alertmanager.service", "prometheus-node-exporter.service", "rsyslog.service",
)  # fmt: skip

SSHD = """\
UseDNS no
PasswordAuthentication no
MaxStartups 100
MaxSessions 100
"""

SUDOERS = """\
deploy ALL=(ALL) NOPASSWD:ALL
asks ALL=(ALL) ALL
"""

BOOT = """\
#!/bin/sh
# systemd-nspawn mounts these read-only: systemd would accept the limits of units, and they would not hold.
for name in memory cpu cpuacct cpu,cpuacct pids; do
    [ ! -d "/sys/fs/cgroup/$name" ] || mount -o remount,rw,bind "/sys/fs/cgroup/$name"
done
exec /lib/systemd/systemd
"""

ASKS_PASSWORD = "quiet-harbour-41"


def build(root: Path, mirror: str) -> None:
    """Build the file system in a new folder."""
    excluded = "".join(f"path-exclude={folder}/*\n" for folder in NOT_UNPACKED)
    _write(root / "etc/dpkg/dpkg.cfg.d/small", f"force-unsafe-io\n{excluded}")
    _call("debootstrap", "--variant=minbase", SUITE, str(root), mirror)
    _install(root)
    _strip(root)
    _configure(root)
    _add_users(root)


def _install(root: Path) -> None:
    """Install the packages with the new system's own apt, which is far quicker at it than debootstrap."""
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    no_servers = root / "usr/sbin/policy-rc.d"
    _write(no_servers, "#!/bin/sh\nexit 101\n", mode=0o755)
    _call("mount", "-t", "proc", "proc", str(root / "proc"))
    _call("chroot", str(root), "apt-get", "-qq", "-o", "Acquire::Languages=none", "update")
    _call("chroot", str(root), "apt-get", "-qq", "install", "--yes", "--no-install-recommends", *PACKAGES)
    _call("umount", str(root / "proc"))
    no_servers.unlink()


def _strip(root: Path) -> None:
    for folder in (*NOT_UNPACKED, "/var/cache/apt", "/var/lib/apt/lists", "/var/cache/debconf"):
        shutil.rmtree(root / folder[1:], ignore_errors=True)
        (root / folder[1:]).mkdir()
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()


def _configure(root: Path) -> None:
    _write(root / "etc/ssh/sshd_config.d/test.conf", SSHD)
    _write(root / "etc/sudoers.d/test", SUDOERS, mode=0o440)
    _write(root / "usr/local/sbin/boot", BOOT, mode=0o755)
    (root / "etc/hostname").unlink(missing_ok=True)
    (root / "var/log/journal").mkdir(exist_ok=True)  # kept over a reboot
    (root / "root").chmod(0o711)  # what is lent to a host may lie below
    for unit in MASKED:
        _link(root / "etc/systemd/system" / unit, "/dev/null")
    _link(root / "etc/systemd/system/default.target", "/lib/systemd/system/multi-user.target")


def _add_users(root: Path) -> None:
    for user in ("deploy", "asks"):
        _call("chroot", str(root), "useradd", "--create-home", "--shell", "/bin/bash", user)
    subprocess.run(["chroot", str(root), "chpasswd"], input=f"asks:{ASKS_PASSWORD}\n", text=True, check=True)


def _link(path: Path, target: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _write(path: Path, text: str, *, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _call(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    try:
        build(Path(sys.argv[1]), sys.argv[2])
    except subprocess.CalledProcessError as error:
        sys.exit(str(error))
