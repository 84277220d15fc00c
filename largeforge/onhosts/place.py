"""Which host has a stage of a run, and how far it was followed: a file in the stage's folder on this machine."""

from __future__ import annotations

import json
import platform
import re
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from largeforge import artifacts

if TYPE_CHECKING:
    from pathlib import Path

FILE = "host.json"


@dataclass(frozen=True)
class Seat:
    """Where a stage is, or was."""

    host: str
    job: str
    """Its name there."""
    attempt: int = 0
    events: int = 0
    """Bytes of its events that were handed on."""
    log: int = 0

    def write(self, folder: Path) -> None:
        """Keep it in the folder of the stage."""
        artifacts.write_json(folder / FILE, asdict(self))

    def at(self, *, events: int = -1, log: int = -1) -> Seat:
        """Return it with other places."""
        return replace(self, events=self.events if events < 0 else events, log=self.log if log < 0 else log)


def read(folder: Path) -> Seat | None:
    """Return where a stage is; None where it was never on a host."""
    try:
        return Seat(**json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def forget(folder: Path) -> None:
    """Give up what is on the host: the next attempt begins anew, wherever there is room."""
    (folder / FILE).unlink(missing_ok=True)


def job_name(folder: Path, *, recipe: str, stage: str) -> str:
    """Return the name of a stage's job on hosts: the same for each attempt of one run, another for each run."""
    key = artifacts.digest([platform.node(), str(folder.absolute())])[:12]
    readable = re.sub(r"[^A-Za-z0-9]+", "-", f"{recipe}-{stage}")[:60].strip("-").lower()
    return f"{readable}-{key}"
