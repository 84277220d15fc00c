"""Tell the service manager how the gateway is (sd_notify(3)): datagrams to the socket that `NOTIFY_SOCKET` names.

Ready, reloading, stopping, a line for people, and a sign of life for its watchdog. Where nobody asked, nothing is sent.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

logger = logging.getLogger(__name__)

STATUS_EVERY_S = 1.0
"""How often the line for people is looked at, and sent where it has changed."""
SPARE_S = 5.0
"""What a stop may take beyond the time that running answers have."""


class Told(Protocol):
    """Who is told how a gateway is."""

    beat_s: float
    """How often `alive` is to be called; 0 for never."""

    def ready(self) -> None:
        """Tell that it serves, also that it does so again after a reload."""

    def reloading(self) -> None:
        """Tell that it takes up another configuration."""

    def stopping(self, within_s: float) -> None:
        """Tell that it ends, and how long running answers may take."""

    def alive(self, status: str) -> None:
        """Tell that it is alive, and how it is in a line for people."""


class Notifier:
    """The service manager; with an empty address there is none."""

    def __init__(self, address: str = "", *, watchdog_s: float = 0.0, clock: Callable[[], float] = time.monotonic):
        self.watchdog_s = watchdog_s
        """How long it waits for a sign of life; 0 for ever."""
        self.beat_s = (min(STATUS_EVERY_S, watchdog_s / 2) if watchdog_s else STATUS_EVERY_S) if address else 0.0
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._clock = clock
        self._sent_at = -watchdog_s
        self._status = ""

    @classmethod
    def of(cls, environment: MutableMapping[str, str] = os.environ) -> Notifier:
        """Return the service manager of this process; its children are not told of it."""
        address = environment.pop("NOTIFY_SOCKET", "")
        usec, pid = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
        watches = usec.isdigit() and pid in ("", str(os.getpid()))
        if address and not address.startswith(("/", "@")):
            logger.warning("NOTIFY_SOCKET = %s: neither a path nor an abstract socket; nothing is told", address)
            address = ""
        return cls(address, watchdog_s=int(usec) / 1e6 if watches else 0.0)

    def ready(self) -> None:
        """Tell that it serves, also that it does so again after a reload."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Tell that it takes up another configuration."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, within_s: float) -> None:
        """Tell that it ends, and ask not to be killed before running answers had their time."""
        self._status = "finishes running answers"
        self._send(f"STOPPING=1\nSTATUS={self._status}\nEXTEND_TIMEOUT_USEC={int((within_s + SPARE_S) * 1e6)}")

    def alive(self, status: str) -> None:
        """Tell that it is alive as often as the watchdog asks, and its line for people when that has changed."""
        if self.watchdog_s and self._clock() + self.beat_s >= self._sent_at + self.watchdog_s / 2:
            self._sent_at = self._clock()
            self._send("WATCHDOG=1")
        if status != self._status:
            self._status = status
            self._send(f"STATUS={status}")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto(text.encode(), self._address)
        except OSError as error:
            logger.warning("the service manager was not told %s: %s", text.partition("\n")[0], error.strerror or error)
