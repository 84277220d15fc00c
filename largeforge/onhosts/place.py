"""Which hosts have a stage of a run, and how far they were followed: a file in the stage's folder on this machine."""

from __future__ import annotations

import json
import platform
import re
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from largeforge import artifacts

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FILE = "host.json"


@dataclass(frozen=True)
class Seat:
    """Where a stage is, or was: one host of it."""

    host: str
    job: str
    """Its name there."""
    attempt: int = 0
    events: int = 0
    """Bytes of its events that were handed on."""
    log: int = 0
    folder: str = ""
    """Of the job, there."""

    @property
    def home(self) -> str:
        """Folder of the account's trainings there."""
        return self.folder.rpartition("/jobs/")[0]

    def begun(self, attempt: int) -> Seat:
        """Return it with the attempt that was started."""
        return replace(self, attempt=attempt)

    def at(self, *, events: int = -1, log: int = -1) -> Seat:
        """Return it with other places."""
        return replace(self, events=self.events if events < 0 else events, log=self.log if log < 0 else log)


def write(folder: Path, seats: Iterable[Seat]) -> None:
    """Keep in the folder of a stage where it is, the host with its artifact first."""
    artifacts.write_json(folder / FILE, [asdict(seat) for seat in seats])


def read(folder: Path) -> list[Seat]:
    """Return where a stage is, the host with its artifact first; nothing where it was never on a host."""
    try:
        return [Seat(**found) for found in json.loads((folder / FILE).read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        return []


def forget(folder: Path) -> None:
    """Give up what is on the host: the next attempt begins anew, wherever there is room."""
    (folder / FILE).unlink(missing_ok=True)


def job_name(folder: Path, *, recipe: str, stage: str) -> str:
    """Return the name of a stage's job on hosts: the same for each attempt of one run, another for each run."""
    key = artifacts.digest([platform.node(), str(folder.absolute())])[:12]
    readable = re.sub(r"[^A-Za-z0-9]+", "-", f"{recipe}-{stage}")[:60].strip("-").lower()
    return f"{readable}-{key}"
