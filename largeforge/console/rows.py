"""Rows of the live view: running stages, one row each or two where it is narrow, and words that wrap whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from largeforge.console.text import clock as as_clock
from largeforge.console.text import count, sparkline

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from largeforge.console.board import Board, Stage

_WIDE = 96
_MAX_WIDTH = 120
_FRAMES_PER_S = 10


class Phrases:
    """Short texts in a row, two spaces apart; a line breaks between them, not inside."""

    def __init__(self, *phrases: Text):
        self._phrases = phrases

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        line = Text()
        for phrase in self._phrases:
            if line and line.cell_len + 2 + phrase.cell_len > options.max_width:
                yield line
                line = Text()
            line = Text.assemble(line, "  " if line else "", phrase)
        yield line


class RunningView:
    """Draws the running stages and how far the run is, at the width that the terminal has now."""

    def __init__(self, board: Board, clock: Callable[[], float], *, is_ascii: bool):
        self._board = board
        self._clock = clock
        self._frames = "-\\|/" if is_ascii else "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
        self._spark_width = 0 if is_ascii else 12

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        stages = list(self._board.running.values())
        if not stages:
            return
        width = min(options.max_width, _MAX_WIDTH)
        draw = self._wide if width >= _WIDE else self._narrow
        yield from console.render(Group(*draw(stages), self._footer()), options.update(width=width))

    def _wide(self, stages: list[Stage]) -> list[RenderableType]:
        grid = _grid()
        grid.add_column(min_width=self._board.name_width + 2, no_wrap=True)
        grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        for _ in range(5):
            grid.add_column(justify="right", no_wrap=True)
        for stage in stages:
            middle = _bar(stage) or Text(stage.title, "dim")
            grid.add_row(self._name(stage), middle, Text(stage.steps), *self._measures(stage), self._left(stage))
        return [grid]

    def _narrow(self, stages: list[Stage]) -> list[RenderableType]:
        rows: list[RenderableType] = []
        for stage in stages:
            head = _grid()
            head.add_column(no_wrap=True, overflow="ellipsis")
            head.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
            title = "" if stage.steps else stage.title
            head.add_row(self._name(stage), Text(title, "dim"), Text(stage.steps), self._left(stage))
            rows.append(head)
            bar = _bar(stage)
            if bar is not None:
                below = _grid()
                below.add_column(ratio=1)
                below.add_row(bar, *self._measures(stage))
                rows.append(Padding(below, (0, 0, 0, 2)))
        return rows

    def _name(self, stage: Stage) -> Text:
        frame = self._frames[int(self._clock() * _FRAMES_PER_S) % len(self._frames)]
        return Text.assemble((frame, "cyan"), " ", (stage.name, "bold"))

    def _measures(self, stage: Stage) -> tuple[Text, Text, Text]:
        loss = Text.assemble(("loss ", "dim"), stage.loss) if stage.loss else Text()
        spark = Text(sparkline(stage.losses, width=self._spark_width), "cyan") if self._spark_width else Text()
        rate = Text(f"{count(stage.tokens_per_s)} tok/s" if stage.tokens_per_s is not None else "", "dim")
        return loss, spark, rate

    def _left(self, stage: Stage) -> Text:
        """Time left where it is known, else the time since the stage began."""
        now = self._clock()
        left = stage.left(now)
        if left is not None:
            return Text(f"{as_clock(left)} left", "dim")
        return Text(as_clock(now - stage.since), "dim")

    def _footer(self) -> Text:
        done, total = self._board.num_done, len(self._board.names)
        of_all = f"{done} of {total} stages  " if total else ""
        return Text(f"  {of_all}{as_clock(self._board.elapsed(self._clock()))}", "dim")


def _grid() -> Table:
    return Table.grid(padding=(0, 2, 0, 0), pad_edge=False, expand=True)


def _bar(stage: Stage) -> ProgressBar | None:
    if stage.step is None or not stage.total:
        return None
    return ProgressBar(
        total=stage.total, completed=stage.step, width=None, complete_style="cyan", finished_style="green"
    )
