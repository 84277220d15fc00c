"""Which of several hosts made a training fail, and why: when one goes, the others fail as well, often sooner."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass, field, replace

from largeforge.autopsy import Worker, killed_worker

_CONSEQUENCE = re.compile(
    r"connection (reset|closed|refused)|broken pipe|by peer|\bgloo\b|\bnccl\b|c10d|tcpstore|rendezvous|DistBackendError"
    r"|DistNetworkError|socket timeout|timed out",
    re.IGNORECASE,
)
"""What a process says when another one is gone."""

_ENDED = "The processes on all other hosts were ended."

_SSH = re.compile(r"Timeout, server|Connection |client_loop|packet_write|ssh:|Read from remote host", re.IGNORECASE)
"""How OpenSSH begins to say why a connection ended."""


@dataclass
class Ending:
    """How the part of one host ended."""

    host: str
    address: str
    code: int
    """Exit code of its processes."""
    lost: bool = False
    """Whether the connection ended before its processes were reported to."""
    error: str = ""
    """What a worker said before it failed."""
    exit_code: int = 1
    """Exit code that the worker's error asks for."""
    reason: str = ""
    """The worker's reason in one word, such as `out_of_memory`."""
    words: list[str] = field(default_factory=list)
    """The last lines of its log."""
    worker: Worker | None = None
    """Which of its processes was killed, where that is known without its log."""
    loss: str = "the connection was lost"
    """What being lost means."""

    @property
    def name(self) -> str:
        """The host as a user knows it."""
        return self.host if self.address in ("local", self.host) else f"{self.host} ({self.address})"

    @property
    def is_certain(self) -> bool:
        """Whether no other host can be the cause."""
        return self.rank == 0

    @property
    def killed(self) -> str:
        """Say which of its processes was killed, by its log; empty when none was, or the launcher itself ended it."""
        worker = self.worker or killed_worker("\n".join(self.words))
        return "" if worker is None or worker.killer == "SIGTERM" else str(replace(worker, host=""))

    @property
    def kind(self) -> str:
        """Why it ended, in one word; where there is one, the runner keeps this message and does not look at the log."""
        return "killed" if self.killed else self.reason

    @property
    def rank(self) -> int:
        """How little this looks like a cause: 0 is the most certain one."""
        if self.lost:
            return 0
        if self.killed:
            return 1
        if self.error and not _CONSEQUENCE.search(self.error):
            return 1
        return 2 if not self.error else 3  # died without a word, or complained of another

    def message(self) -> str:
        """Say which host failed and why."""
        if self.lost:
            said = next((line for line in reversed(self.words) if _SSH.match(line)), "")
            last = f" ({said})" if said else ""
            return f"host {self.name}: {self.loss}{last}. {_ENDED}"
        if self.killed:
            return f"host {self.name}: {self.killed}. {_ENDED}"
        if self.error:
            return f"host {self.name}: {self.error}"
        return f"host {self.name}: {_how(self)}. The end of its log:\n  " + "\n  ".join(self.words[-15:] or ["(empty)"])


def cause(endings: list[Ending]) -> Ending:
    """Return the ending that the others follow from; of equals, the first."""
    return min(endings, key=lambda ending: ending.rank)


def _how(ending: Ending) -> str:
    names = {128 + number: number.name for number in signal.Signals}
    if ending.code in names:
        return f"its processes were killed by {names[ending.code]}"
    return f"its processes ended with exit code {ending.code}"
