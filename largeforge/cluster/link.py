"""The connection between two hosts that train together: lines of JSON, and what has been said so far."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from largeforge.cluster.blame import Ending

if TYPE_CHECKING:
    import socket

LONGEST_HELLO = 4096
HELLO_S = 2.0
"""Time for all that somebody who knocks says: others wait behind him."""
STOPPED = "it was told to end there, by systemctl or because the host was shut down"


@dataclass
class Link:
    """The connection to another host, and what it has said."""

    host: str
    address: str
    socket: socket.socket
    heard: float = field(default_factory=time.monotonic)
    buffer: bytes = b""
    is_open: bool = True
    said: dict[str, Any] = field(default_factory=dict)
    """`go`: the port; `failed`: of a worker; `ended`: exit code, with `words` and `stopped`; `over`: how all ended."""

    def tell(self, **fields: Any) -> None:
        """Say something; one that is gone is noticed by reading."""
        try:
            self.socket.sendall(json.dumps(fields).encode() + b"\n")
        except OSError:
            return

    def read(self) -> None:
        """Take in what has come."""
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            return
        except OSError:
            data = b""
        self.is_open = bool(data)
        self.heard = time.monotonic()
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        for line in lines:
            self.said.update(json.loads(line))

    def ending(self, *, is_lost: bool) -> Ending:
        """Return how its part ended, for the search for the cause."""
        said, failed = self.said, self.said.get("failed", {})
        error = str(failed.get("error", "")) or (STOPPED if said.get("stopped") else "")
        return Ending(
            self.host, self.address, said.get("ended", 1), lost=is_lost, error=error, words=said.get("words", []),
            exit_code=failed.get("exit_code", 1), reason=failed.get("reason", ""),
        )  # fmt: skip


def hello(found: socket.socket) -> tuple[dict[str, Any], bytes]:
    """Return what somebody who knocks says of himself, and what came after it; nothing when that is no sense."""
    data, until = b"", time.monotonic() + HELLO_S
    try:
        while b"\n" not in data and len(data) < LONGEST_HELLO:
            found.settimeout(max(0.01, until - time.monotonic()))
            part = found.recv(1024)
            if not part:
                break
            data += part
        line, _, rest = data.partition(b"\n")
        said = json.loads(line)
    except (OSError, ValueError, RecursionError):
        return {}, b""
    return (said, rest) if isinstance(said, dict) else ({}, b"")
