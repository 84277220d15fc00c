"""Why the process of a stage died without a word: the signal that killed it, the kernel's memory killer, its log."""

from __future__ import annotations

import re
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

VMSTAT = Path("/proc/vmstat")

_ENDED = "The others were ended with it. Its log"
_LOG_TAIL = 15
"""Lines of a log that are shown."""
_ROOT_CAUSE = "Root Cause (first observed failure):"
_WORKER = re.compile(
    r"host\s*: (?P<host>\S+)\s+rank\s*: (?P<rank>\d+) \(local_rank: \d+\)\s+exitcode\s*: (?P<code>-?\d+)"
)
_FAILED = re.compile(r"failed \(exitcode: -(?P<number>\d+)\)")
"""How torch's elastic agent tells that one of its processes was killed; the second where it could say no more."""


@dataclass(frozen=True)
class Death:
    """How a process ended that said nothing itself."""

    killer: str
    """Name of the signal that killed it, or one of its worker processes; empty for none."""
    text: str
    """What is known of it, as one message."""


@dataclass(frozen=True)
class Worker:
    """One of several processes that train together, and what killed it."""

    killer: str
    rank: str = ""
    """Its number among all processes, where that is known."""
    host: str = ""

    def __str__(self) -> str:
        rank = f" (rank {self.rank})" if self.rank else ""
        why = " (often the kernel, for memory)" if self.killer == "SIGKILL" else ""
        where = f" on {self.host}" if self.host else ""
        return f"one of its worker processes{rank}{where} was killed by {self.killer}{why}"


def examine(log: Path, code: int, *, since: int = 0) -> Death:
    """Return how a process ended, by its exit code (128 + signal) and what was written to its log from `since`."""
    killers = {128 + number: number.name for number in signal.Signals}
    try:
        with log.open("rb") as stream:
            stream.seek(since)
            told = stream.read().decode("utf-8", "replace")
    except OSError:
        told = ""
    killer, worker = killers.get(code, ""), killed_worker(told)
    if worker is not None and not killer:
        return Death(worker.killer, f"{worker}. {_ENDED}: {log}")
    how = f"was killed by {killer}" if killer else f"ended with exit code {code}"
    lines = [line for line in told.splitlines() if line.strip()]
    tail = "\n  ".join(lines[-_LOG_TAIL:])
    text = f"its process {how}. The end of {log}:\n  {tail}" if tail else f"its process {how}; it left no log."
    return Death(killer, text)


def killed_worker(told: str) -> Worker | None:
    """Return the process that a signal killed first, by what torch's elastic agent wrote; None when none was."""
    before, has_report, after = told.rpartition(_ROOT_CAUSE)
    if has_report:
        first = [found for found in _WORKER.finditer(after) if int(found["code"]) < 0][:1]
        # one that lost its peer may be seen to fail before the peer; SIGTERM is how the agent ends the others
        others = (found for found in _WORKER.finditer(before) if int(found["code"]) < 0)
        killed = [*first, *(found for found in others if -int(found["code"]) != signal.SIGTERM)]
        if not killed:
            return None
        host = socket.gethostname() if killed[0]["host"] == "localhost" else killed[0]["host"]
        return Worker(_name(-int(killed[0]["code"])), killed[0]["rank"], host)
    last = _FAILED.search(told)
    return Worker(_name(int(last["number"]))) if last else None


def _name(number: int) -> str:
    return next((known.name for known in signal.Signals if known == number), f"signal {number}")


def memory_kills() -> int:
    """Return how many processes the kernel has killed for want of memory since it started; 0 where it does not say."""
    try:
        found = re.search(r"^oom_kill (\d+)$", VMSTAT.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0
