"""Progress on the terminal for work on large files; quick work shows nothing."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import Progress, TaskID

    from largeforge.registry.copying import Watch

SHOWN_AFTER_S = 2.0


@contextmanager
def watching(clock: Callable[[], float] = time.monotonic) -> Iterator[Watch | None]:
    """Give what a registry tells its progress to; None where nobody sees it."""
    if not sys.stderr.isatty():
        yield None
        return
    bar = _Bar(clock)
    try:
        yield bar
    finally:
        bar.close()


class _Bar:
    """A line for each piece of work that takes more than `SHOWN_AFTER_S`."""

    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        self._since: dict[str, float] = {}
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, text: str, done: int, total: int) -> None:
        """Show how far work has come, once it has taken a while."""
        since = self._since.setdefault(text, self._clock())
        if self._clock() - since < SHOWN_AFTER_S and text not in self._tasks:
            return
        progress = self._shown()
        if text not in self._tasks:
            self._tasks[text] = progress.add_task(text, total=total or None)
        progress.update(self._tasks[text], completed=done, total=total or None)

    def close(self) -> None:
        """Take the lines away."""
        if self._progress is not None:
            self._progress.stop()

    def _shown(self) -> Progress:
        if self._progress is None:
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
            from rich.progress import TransferSpeedColumn as Speed

            columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), Speed())
            self._progress = Progress(
                *columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True, refresh_per_second=4
            )
            self._progress.start()
        return self._progress
