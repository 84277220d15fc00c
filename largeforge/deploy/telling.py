"""What a deployment says of hosts: a log for each, a table at the end, and after a failure what to do."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from largeforge.deploy.controller import Outcome

ADVICE: tuple[tuple[str, str], ...] = (
    (r"No space left on device|disk is full", "make room on that host, or set its paths.root to a larger disk"),
    (
        r"connection is lost|cannot be reached|Connection (refused|timed out|closed)|No route to host|timed out",
        "once the host answers (`python -m largeforge hosts check {inventory}`), the same command continues",
    ),
    (
        r"HOST IDENTIFICATION HAS CHANGED|Host key verification failed",
        "if the host was installed anew, remove its old key with ssh-keygen -R; if not, find out who answers there",
    ),
    (r"Permission denied \(", "ssh does not let you in: look at user, key and agent of that host"),
    (r"sudo|does not become root", "look at sudo_password of that host, or allow its account sudo without one"),
    (r"is changing this deployment", "wait for that run, or end it; its lock goes when it ends"),
    (
        r"did not start|it ended \d+ s after|does not answer /|its answer to",
        "`python -m largeforge logs {inventory} {deployment}` has all that it said; mend the recipe or the model",
    ),
    (r"cannot be had|pip|environment for", "look at packages of that host (index_url, proxy, wheelhouse)"),
    (r"not what the hub says|rsync|files could not be brought", "the same command brings what is missing"),
    (
        r"NOTHING SERVES THERE NOW",
        "`python -m largeforge rollback {inventory} {deployment}` brings back what served before",
    ),
)
"""Patterns of messages, and what helps."""


class HostLogs:
    """Writes what is reported into a file for each host; lines of no host are in `deployment.log`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._lock = Lock()

    def write(self, host: str, text: str) -> None:
        """Add a line with the time (UTC)."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with self._lock:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / f"{host or 'deployment'}.log").open("a", encoding="utf-8") as stream:
                stream.write("".join(f"{stamp}  {line}\n" for line in text.splitlines()))


def advice(message: str, *, inventory: str, deployment: str) -> str:
    """Return what to do about a failure, a line for each thing that was recognized; empty where nothing was."""
    found = [text for pattern, text in ADVICE if re.search(pattern, message, re.IGNORECASE)]
    lines = [f"  - {text.format(inventory=inventory, deployment=deployment)}" for text in found]
    return "\n".join(["What to do:", *lines]) if lines else ""


def table(outcome: Outcome) -> dict[str, Any]:
    """Return the fields of a `table` event: what was done on each host."""
    rows = [_row(host, changed, outcome) for host, changed in sorted(outcome.changed.items())]
    return {"title": "done on hosts", "columns": ["host", "changed", "servers", "without service"], "rows": rows}


def by_host(message: str, hosts: Mapping[str, Any]) -> dict[str, str]:
    """Return the lines of an error by the host that they begin with."""
    found: dict[str, str] = {}
    for line in message.splitlines():
        host, colon, rest = line.partition(": ")
        if colon and host in hosts:
            found[host] = f"{found[host]}\n{rest}" if host in found else rest
    return found


def _row(host: str, changed: int, outcome: Outcome) -> list[Any]:
    done = [one for one in outcome.done if one.replacement.new.host == host]
    gone = [f"{one.service} stopped" for one in outcome.removed if one.host == host]
    said = [f"{one.replacement.new.service} {'replaced' if one.replacement.old else 'started'}" for one in done]
    down_s = max((one.down_s for one in done), default=0.0)
    return [host, changed, ", ".join([*said, *gone]) or "as they were", f"{down_s:.1f} s" if down_s else "–"]
