"""Take turns on an MLflow server, which has no locks: Lamport's bakery, with runs as tickets.

A process makes a run (its ticket), reads the highest number there is, writes the next one on its ticket, and waits
until no open ticket has a lower number or none yet; equal numbers are ordered by the ids of their runs
(L. Lamport, "A new solution of Dijkstra's concurrent programming problem", CACM 17(8), 1974). A ticket is open
while its run is. The ticket of a process that died on this host is closed at once, that of another host after
`PATIENCE_S` at the head of the queue; whoever wakes up after that sees that its ticket is closed, and gives up.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

from largeforge.errors import RegistryError
from largeforge.registry.database import every

MODEL = "largeforge.model"
NUMBER = "largeforge.number"
PROCESS = "largeforge.process"
PATIENCE_S = 60.0
"""How long a ticket may stay at the head of the queue: a change takes some requests of milliseconds."""
_POLL_S = 0.1


def ticket() -> dict[str, str]:
    """Return the tags of a new ticket."""
    return {PROCESS: here()}


def here() -> str:
    """Name this process: where it runs, its id, and when it started, since ids are used again."""
    return f"{_where()}:{os.getpid()}:{_started(os.getpid())}"


def is_dead(process: str) -> bool:
    """Whether a process that `here` named can be seen from here and runs no more; others may still live."""
    where, _, rest = process.partition(":")
    pid, _, started = rest.partition(":")
    return where == _where() and pid.isdigit() and _started(int(pid)) != started


def wait(client: Any, experiment: str, model: str, mine: str) -> None:
    """Draw a number for the ticket `mine`, and wait until it is called."""
    number = last(client, experiment, model, NUMBER) + 1
    client.set_tag(mine, NUMBER, f"{number:08d}")
    head, since = "", time.monotonic()
    while ahead := _ahead(client, experiment, model, (number, mine)):
        first = ahead[0]
        if first.info.run_id != head:
            head, since = first.info.run_id, time.monotonic()
        if is_dead(first.data.tags.get(PROCESS, "")) or time.monotonic() - since > PATIENCE_S:
            client.set_terminated(head, "KILLED")
        else:
            time.sleep(_POLL_S)
    insist(client, mine)


def insist(client: Any, mine: str) -> None:
    """Make sure that nobody took this process for dead.

    Raises RegistryError when somebody did.
    """
    if client.get_run(mine).info.status != "RUNNING":
        rule = f"this process stood still for more than {PATIENCE_S:.0f} s, and others went on without it"
        raise RegistryError(f"nothing was changed: {rule}; try again")


def end_broken(client: Any, experiment: str, model: str) -> None:
    """Close all tickets of a model; for who holds the lock of a local database, so that nobody else is alive."""
    for run in runs(client, experiment, model, "RUNNING"):
        client.set_terminated(run.info.run_id, "KILLED")


def last(client: Any, experiment: str, model: str, tag: str) -> int:
    """Return the highest number that the runs of a model have in a tag; 0 for none."""
    found = client.search_runs([experiment], _filter(model), order_by=[f"tags.`{tag}` DESC"], max_results=1)
    return number_of(found[0], tag) if found else 0


def runs(client: Any, experiment: str, model: str, status: str = "") -> list[Any]:
    """Return the tickets of a model, those with a status if one is given."""
    only = _filter(model) + (f" AND attributes.status = '{status}'" if status else "")
    return every(lambda **page: client.search_runs([experiment], **page), only)


def number_of(run: Any, tag: str = NUMBER) -> int:
    """Return the number on a ticket, or in another tag; 0 when it has none yet."""
    return int(run.data.tags.get(tag, 0))


def _ahead(client: Any, experiment: str, model: str, mine: tuple[int, str]) -> list[Any]:
    """Return the open tickets that are called earlier; those that are drawing a number come first."""
    opened = [(number_of(run), run.info.run_id, run) for run in runs(client, experiment, model, "RUNNING")]
    return [run for number, run_id, run in sorted(opened, key=lambda each: each[:2]) if (number, run_id) < mine]


def _filter(model: str) -> str:
    return f"tags.`{MODEL}` = '{model}'"


def _where() -> str:
    """Name the set of processes that this one can see: host, its start, and the namespace (a container's)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()}/{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return socket.gethostname()


def _started(pid: int) -> str:
    """Return when a process started, in the kernel's ticks; empty when there is none (proc_pid_stat(5), field 22)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
