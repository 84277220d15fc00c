"""The stages of a run that are on hosts, from the run's folder alone: for commands that come later."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.deploy.connection import reaches
from largeforge.errors import StageError, listed
from largeforge.onhosts import place
from largeforge.onhosts.host import OnHost
from largeforge.onhosts.task import FILE, Task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from largeforge.onhosts.place import Seat


@dataclass(frozen=True)
class Seated:
    """A stage that was begun on a host and has not come home; of a training on several, the part of one."""

    folder: Path
    task: Task
    seat: Seat

    @contextmanager
    def host(self) -> Iterator[OnHost]:
        """Give the host."""
        with reaches(self.task.hosts_file, [self.seat.host]) as reached:
            found = OnHost(reached[self.seat.host])
            found.install()
            yield found


def run_folder(text: str, root: Path) -> Path:
    """Return the folder of a run: a path, or the name of a recipe for its newest run.

    Raises StageError when there is none.
    """
    given = Path(text)
    if (given / "lock.json").is_file():
        return given.absolute()
    runs = sorted(path.parent for path in (root / text).glob("*/lock.json")) if given.name == text else []
    if runs:
        return runs[-1].absolute()
    names = sorted({path.parents[1].name for path in root.glob("*/*/lock.json")})
    raise StageError(
        f"{text!r} is neither the folder of a run nor a recipe with runs below {root}; there is: {listed(names)}"
    )


def seated(run: Path) -> list[Seated]:
    """Return the stages of a run that are on hosts."""
    found: list[Seated] = []
    for path in sorted(run.glob(f"*/{place.FILE}")):
        if (path.parent / FILE).is_file():
            task = Task.read(path.parent)
            found += [Seated(path.parent, task, seat) for seat in place.read(path.parent)]
    return found
