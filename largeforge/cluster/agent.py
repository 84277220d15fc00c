"""What runs the processes of a training on a node of a Ray cluster: `python -m largeforge.cluster.agent`.

Its standard input is the leash. The first line is an order, as JSON; the agent looks whether it can be carried out
and answers with one line; `go` starts the processes; then any line says that the other side is still there. The end
of the input, or silence for as long as the order allows, ends every process that it started: whatever happens to the
connection, to the machine at its other end, or to the agent itself, nothing is left behind on a host.

Its standard output carries its own lines (`{"agent": …}`) and the events of the training. Starts before torch is
imported anywhere, and imports nothing heavy.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import largeforge
from largeforge import hardware, reaper

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGES = ("torch", "transformers", "accelerate", "trl", "peft", "deepspeed")
"""Packages that all hosts must have in the same version."""
GRACE_S = 10.0
_SIOCGIFADDR = 0x8915


class Leash:
    """The lines that come on standard input; `is_held` until it ends, or was silent for too long."""

    def __init__(self, descriptor: int):
        self._descriptor = descriptor
        self._buffer = b""
        self._heard = time.monotonic()
        self._ended = False
        self.lost_after_s = 60.0

    def is_held(self) -> bool:
        return not self._ended and time.monotonic() - self._heard < self.lost_after_s

    def lines(self, timeout_s: float) -> list[str]:
        """Return the lines that come within a time."""
        if self._ended or not select.select([self._descriptor], [], [], timeout_s)[0]:
            return []
        data = os.read(self._descriptor, 65536)
        self._ended = not data
        self._heard = time.monotonic()
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return [line.decode() for line in lines]


def main() -> int:
    """Take one order, carry it out, and return the exit code of what was run."""
    leash = Leash(0)
    order: dict[str, Any] = {}
    while leash.is_held() and not order:
        order = next((json.loads(line) for line in leash.lines(1.0)), {})
    if not order:
        return 1
    leash.lost_after_s = order["lost_after_s"]
    refusal = _refusal(order)
    if refusal:
        _say(agent="refused", reason=refusal)
        return 1
    _say(agent="ready", versions=versions())
    while leash.is_held():
        if "go" in leash.lines(1.0):
            return _run(order, leash)
    return 1


def versions() -> dict[str, str]:
    """Return the versions that must be the same everywhere; what is not installed is left out."""
    found = {"largeforge": largeforge.__version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def environment(order: dict[str, Any]) -> dict[str, str]:
    """Return the environment of the processes: this host's, what the order brings, and the network to train over."""
    return {**network(order["address"]), **os.environ, **order["environment"]}


def network(address: str, peers: Sequence[str] = ()) -> dict[str, str]:
    """Return the variables that name the interface for gloo and NCCL; none when it is not clear which."""
    interface = interface_to(peers) or interface_of(address)
    return {name: interface for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME") if interface}


def interface_to(peers: Sequence[str]) -> str:
    """Return the interface over which this host reaches the others; empty when there are none, or they need several.

    The route decides: a host's own name may stand for its loopback (Debian's 127.0.1.1), or for another network.
    """
    found = set()
    for peer in peers:
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.connect((socket.gethostbyname(peer), 9))  # sends nothing
                found.add(interface_of(probe.getsockname()[0]))
        except OSError:
            return ""
    return found.pop() if len(found) == 1 else ""


def interface_of(address: str) -> str:
    """Return the name of the network interface that has an address (IPv4); empty when none has."""
    try:
        wanted = socket.gethostbyname(address)
    except OSError:
        return ""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                found = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue
            if socket.inet_ntoa(found[20:24]) == wanted:
                return name
    return ""


def _refusal(order: dict[str, Any]) -> str:
    """Return why the order cannot be carried out on this host, or an empty string."""
    token = Path(order["token_path"])
    try:
        found = token.read_text(encoding="utf-8")
    except OSError as error:
        found = error.strerror or "cannot be read"
    if found != order["token"]:
        return f"{token.parent} is not the same folder as on the machine that started the run ({found[:80]}): the "\
            "folder of runs must be on storage that all hosts share, under one path (runs.root)"  # fmt: skip
    gpus = len(hardware.gpus()) if order["gpus"] else 0
    if gpus < order["gpus"]:
        return f"it has {gpus} GPU{'' if gpus == 1 else 's'}, and {order['gpus']} are to train there"
    return ""


def _run(order: dict[str, Any], leash: Leash) -> int:
    """Run the order's command until it ends or the leash is let go of."""
    stops: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stops.append(1))
    process = subprocess.Popen(
        reaper.command(order["argv"], grace_s=GRACE_S), stdin=subprocess.DEVNULL, start_new_session=True,
        env=environment(order), cwd=order["workdir"] or None,
    )  # fmt: skip
    told_at = 0.0
    while process.poll() is None:
        leash.lines(0.2) if leash.is_held() else time.sleep(0.05)
        if (stops or not leash.is_held()) and time.monotonic() - told_at > 2 * GRACE_S:
            process.send_signal(signal.SIGTERM)  # a second one is without grace
            told_at = time.monotonic()
    _say(agent="ended", code=process.returncode)
    return process.returncode


def _say(**fields: Any) -> None:
    try:
        print(json.dumps(fields), flush=True)
    except OSError:  # nobody listens any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    sys.exit(main())
