"""What goes wrong with a host on purpose, and is undone by `mend`."""

from __future__ import annotations

import os
import subprocess
from functools import partial
from typing import TYPE_CHECKING, Literal

from tests.hosts import keys

if TYPE_CHECKING:
    from tests.hosts.machine import Machine

FILLER = ".filler"


def mend(machine: Machine) -> None:
    """Undo all faults that a host has; boot it if it is off."""
    while machine.mend:
        machine.mend.popitem()[1]()
    if not machine.pid:
        machine.reap()
        machine.power_on()


def link(machine: Machine, state: Literal["up", "down"]) -> None:
    """Plug the network cable in or out."""
    machine.bridge.link(machine.name, state)
    _note(machine, "link", None if state == "up" else partial(link, machine, "up"))


def rate(machine: Machine, limit: str | None) -> None:
    """Limit what the network carries to and from a host, as in `1mbit`; None lifts the limit."""
    port = machine.bridge.port(machine.name)
    for space, device in ((machine.bridge.name, port), (machine.bridge.space(machine.name), "eth0")):
        queue = ["tc", "-n", space, "qdisc", "replace" if limit else "del", "dev", device, "root"]
        bucket = ["tbf", "rate", limit, "burst", "32k", "latency", "200ms"] if limit else []
        subprocess.run([*queue, *bucket], check=True)
    _note(machine, "rate", partial(rate, machine, None) if limit else None)


def loss(machine: Machine, percent: int | None) -> None:
    """Lose this share (1 to 99) of the packets to a host; None lifts that."""
    nft = ["ip", "netns", "exec", machine.bridge.space(machine.name), "chroot", str(machine.rootfs), "nft"]
    subprocess.run([*nft, "delete table inet loss"], capture_output=True)
    if percent:
        rules = (
            "add table inet loss; add chain inet loss in { type filter hook input priority -10; };"
            f"add rule inet loss in iifname eth0 numgen random mod 100 < {percent} drop"
        )
        subprocess.run([*nft, rules], check=True)
    _note(machine, "loss", partial(loss, machine, None) if percent else None)


def fill_disk(machine: Machine, path: str) -> None:
    """Leave no room in one of the host's small file systems."""
    folder = machine.small(path)
    with (folder / FILLER).open("wb") as file:
        space = os.statvfs(folder)
        os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize)
    _note(machine, f"disk {path}", partial(free_disk, machine, path))


def free_disk(machine: Machine, path: str) -> None:
    """Give back the room that `fill_disk` took."""
    (machine.small(path) / FILLER).unlink(missing_ok=True)
    _note(machine, f"disk {path}", None)


def change_host_key(machine: Machine) -> None:
    """Give a host another key than clients know, as if it had been installed anew or were another one."""
    kept = machine.host_key.with_name("kept")
    if not kept.exists():
        machine.host_key.rename(kept)
        machine.host_key.with_suffix(".pub").rename(kept.with_suffix(".pub"))
    keys.generate(machine.host_key)
    _sshd(machine, "restart")
    _note(machine, "host key", partial(restore_host_key, machine))


def restore_host_key(machine: Machine) -> None:
    """Give a host back the key that clients know."""
    kept = machine.host_key.with_name("kept")
    kept.rename(machine.host_key)
    kept.with_suffix(".pub").rename(machine.host_key.with_suffix(".pub"))
    _sshd(machine, "restart")
    _note(machine, "host key", None)


def stop_sshd(machine: Machine) -> None:
    """Let nobody in any more; connections that are open stay."""
    _sshd(machine, "stop")
    _note(machine, "sshd", partial(start_sshd, machine))


def start_sshd(machine: Machine) -> None:
    """Let clients in again."""
    _sshd(machine, "start")
    _note(machine, "sshd", None)


def _sshd(machine: Machine, verb: str) -> None:
    if not machine.pid:
        return  # it starts with the host
    ended = machine.enter("systemctl", verb, "ssh.service")
    assert ended.returncode == 0, ended.stderr


def _note(machine: Machine, fault: str, undo: partial[None] | None) -> None:
    if undo is None:
        machine.mend.pop(fault, None)
    else:
        machine.mend[fault] = undo
