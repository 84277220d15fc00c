"""Why the process of a stage died without a word: the signal that killed it, the kernel's memory killer, its log."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from pathlib import Path

VMSTAT = Path("/proc/vmstat")

_LOG_TAIL = 15
"""Lines of a log that are shown."""
_KILLED = (
    re.compile(r"Root Cause \(first observed failure\):.*?exitcode\s*: -(?P<number>\d+)", re.DOTALL),
    re.compile(r"failed \(exitcode: -(?P<number>\d+)\)"),
)
"""How torch's elastic agent tells that one of its processes was killed."""


@dataclass(frozen=True)
class Death:
    """How a process ended that said nothing itself."""

    killer: str
    """Name of the signal that killed it, or one of its worker processes; empty for none."""
    text: str
    """What is known of it, as one message."""


def examine(log: Path, code: int, *, since: int = 0) -> Death:
    """Return how a process ended, by its exit code (128 + signal) and what was written to its log from `since`."""
    killers = {128 + number: number.name for number in signal.Signals}
    try:
        with log.open("rb") as stream:
            stream.seek(since)
            told = stream.read().decode("utf-8", "replace")
    except OSError:
        told = ""
    killer = killers.get(code, "")
    how = f"was killed by {killer}" if killer else f"ended with exit code {code}"
    worker = next((killers.get(128 + int(found["number"]), "") for each in _KILLED if (found := each.search(told))), "")
    if worker and not killer:
        killer, how = worker, f"ended: one of its worker processes was killed by {worker}"
    lines = [line for line in told.splitlines() if line.strip()]
    tail = "\n  ".join(lines[-_LOG_TAIL:])
    text = f"its process {how}. The end of {log}:\n  {tail}" if tail else f"its process {how}; it left no log."
    return Death(killer, text)


def memory_kills() -> int:
    """Return how many processes the kernel has killed for want of memory since it started; 0 where it does not say."""
    try:
        found = re.search(r"^oom_kill (\d+)$", VMSTAT.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0
