"""Wait until the process of an earlier attempt has left the folder of a stage.

A training that was told to stop saves a checkpoint first, also when its runner was killed. Whoever runs the same
command again at once must not work in the same folder meanwhile.
"""

from __future__ import annotations

import fcntl
import os
import time
from typing import IO, TYPE_CHECKING

from largeforge.errors import StageError

if TYPE_CHECKING:
    from pathlib import Path

    from largeforge.events import Events

LONGEST_S = 60.0
"""A reaper has killed what an earlier attempt left long before."""
_POLL_S = 0.05

_held: list[IO[str]] = []
"""Open as long as this process lives."""


def alone(work: Path, events: Events) -> None:
    """Hold `work` until this process ends, once nobody else holds it.

    Raises StageError when that takes too long.
    """
    work.mkdir(parents=True, exist_ok=True)
    stream = (work / ".lock").open("a+", encoding="utf-8")
    _held.append(stream)
    deadline, told = time.monotonic() + LONGEST_S, False
    while not _locked(stream):
        stream.seek(0)
        holder = stream.read().strip()
        if not told:
            events.emit("note", text=f"waiting for process {holder} of an earlier attempt to end")
            told = True
        if time.monotonic() > deadline:
            raise StageError(f"process {holder} still works in {work} after {LONGEST_S:.0f} s: end it and run again")
        time.sleep(_POLL_S)
    stream.truncate(0)
    stream.write(f"{os.getpid()}\n")
    stream.flush()


def _locked(stream: IO[str]) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
