"""Command lines of OpenSSH's client."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ALIVE_INTERVAL_S = 5


@dataclass(frozen=True)
class Target:
    """How a host is reached; `local` is this machine."""

    address: str
    user: str = ""
    port: int = 0
    config: str = ""

    @property
    def is_local(self) -> bool:
        """Whether no connection is needed."""
        return self.address == "local"


def command(target: Target, argv: list[str], *, lost_after_s: float = 30, options: Sequence[str] = ()) -> list[str]:
    """Return the argv that runs `argv` on a host, without questions, and notices a dead connection.

    `options` are further words for ssh.
    """
    if target.is_local:
        return argv
    alive = max(1, math.ceil(lost_after_s / ALIVE_INTERVAL_S))
    settings = (
        "BatchMode=yes", "ConnectTimeout=10", "ControlPath=none", "LogLevel=ERROR",
        f"ServerAliveInterval={ALIVE_INTERVAL_S}", f"ServerAliveCountMax={alive}",
    )  # fmt: skip
    words = ["ssh", "-T", *(["-F", target.config] if target.config else [])]
    for setting in settings:
        words += ["-o", setting]
    words += ["-p", str(target.port)] if target.port else []
    words += ["-l", target.user] if target.user else []
    words += options
    return [*words, "--", target.address, remote(argv)]


def remote(argv: list[str]) -> str:
    """Return the line for the shell of a host."""
    return f"exec {shlex.join(argv)}"
