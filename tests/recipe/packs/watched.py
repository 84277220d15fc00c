"""Run in a process of its own: whatever is opened, started or connected outside the given folders ends up in `seen`."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

MEMORY_BYTES = 2 * 2**30


def watch(*folders: Path, cpu_s: int) -> list[str]:
    """Limit this process and return the list that offences are written to, from now on.

    Reading is allowed in Python's and LargeForge's own folders and in the given ones.
    """
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    seen: list[str] = []
    code = [Path(sys.prefix), Path(sys.base_prefix), *(Path(entry) for entry in sys.path if entry)]
    allowed = (*(f"{os.path.realpath(folder)}/" for folder in [*code, *folders]), "/proc/", "/sys/")
    forbidden = ("subprocess.", "os.exec", "os.posix_spawn", "os.system", "os.fork", "socket.connect", "socket.getaddr")
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT

    def hook(event: str, details: tuple[object, ...]) -> None:
        if event.startswith(forbidden):
            seen.append(f"{event} {details!r}"[:300])
        elif event == "open" and isinstance(details[0], str | bytes | os.PathLike):
            path = os.path.realpath(os.fsdecode(details[0]))
            flags = details[2] if isinstance(details[2], int) else 0
            if not f"{path}/".startswith(allowed) or (flags & writes and not path.endswith(".pyc")):
                seen.append(f"open {path} {details[1]!r}")

    sys.addaudithook(hook)
    return seen
