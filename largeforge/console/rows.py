"""Rows of the live view: running stages, and what a training tells of itself where there is room.

A stage has one row, or two where it is narrow. A training has up to three rows more, as long as all
of them fit the height of the terminal; words wrap whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from largeforge.console import figures
from largeforge.console.text import clock as as_clock
from largeforge.console.text import count, sparkline

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from largeforge.console.board import Board, Stage

_WIDE = 96
_SPARK, _WIDE_SPARK = 12, 24
_DETAILS = 3
"""Rows that the figures of a training take where it is narrow and nothing wraps; one less where it is wide."""
_KEPT_ROWS = 4
"""Rows of the terminal that stay for what scrolls by."""
_MAX_WIDTH = 120
_FRAMES_PER_S = 10


class Phrases:
    """Short texts in a row, some spaces apart; a line breaks between them, not inside."""

    def __init__(self, *phrases: Text, gap: int = 2):
        self._phrases = phrases
        self._gap = gap

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        line = Text()
        for phrase in self._phrases:
            if line and line.cell_len + self._gap + phrase.cell_len > options.max_width:
                yield line
                line = Text()
            line = Text.assemble(line, " " * self._gap if line else "", phrase)
        yield line


class RunningView:
    """Draws the running stages and how far the run is, at the width that the terminal has now."""

    def __init__(self, board: Board, clock: Callable[[], float], *, is_ascii: bool):
        self._board = board
        self._clock = clock
        self._frames = "-\\|/" if is_ascii else "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
        self._has_sparks = not is_ascii

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        stages = list(self._board.running.values())
        if not stages:
            return
        width = min(options.max_width, _MAX_WIDTH)
        is_wide = width >= _WIDE
        options = options.update(width=width, height=None)
        trainings = [stage for stage in stages if stage.is_training]
        rows = len(stages) if is_wide else 2 * len(stages)
        is_detailed = rows + (_DETAILS - is_wide) * len(trainings) <= max(
            console.size.height - _KEPT_ROWS, _DETAILS + 2
        )
        draw = self._wide if is_wide else self._narrow
        yield from console.render(Group(*draw(stages, is_detailed), self._footer()), options)

    def _wide(self, stages: list[Stage], is_detailed: bool) -> list[RenderableType]:
        if not is_detailed:
            return [self._row(stages, with_measures=True)]
        rows: list[RenderableType] = []
        plain: list[Stage] = []
        for stage in stages:
            plain.append(stage)
            if stage.is_training:
                rows += [self._row(plain, with_measures=False), self._details(stage, is_wide=True)]
                plain = []
        return [*rows, self._row(plain, with_measures=False)] if plain else rows

    def _row(self, stages: list[Stage], *, with_measures: bool) -> RenderableType:
        """Return stages as rows of one grid."""
        grid = _grid()
        grid.add_column(min_width=self._board.name_width + 2, no_wrap=True)
        grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        for _ in range(5 if with_measures else 2):
            grid.add_column(justify="right", no_wrap=True)
        for stage in stages:
            middle = _bar(stage) or Text(stage.title, "dim")
            measures = self._measures(stage) if with_measures else ()
            grid.add_row(self._name(stage), middle, Text(stage.steps), *measures, self._left(stage))
        return grid

    def _narrow(self, stages: list[Stage], is_detailed: bool) -> list[RenderableType]:
        rows: list[RenderableType] = []
        for stage in stages:
            head = _grid()
            head.add_column(no_wrap=True, overflow="ellipsis")
            head.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
            title = "" if stage.steps else stage.title
            head.add_row(self._name(stage), Text(title, "dim"), Text(stage.steps), self._left(stage))
            rows.append(head)
            has_details = is_detailed and stage.is_training
            bar = _bar(stage)
            if bar is not None:
                below = _grid()
                below.add_column(ratio=1)
                below.add_row(bar, *(() if has_details else self._measures(stage)))
                rows.append(Padding(below, (0, 0, 0, 2)))
            if has_details:
                rows.append(self._details(stage, is_wide=False))
        return rows

    def _details(self, stage: Stage, *, is_wide: bool) -> RenderableType:
        """Return what a training tells of itself: the model, the machine, time and money."""
        loss = Text.assemble(("loss ", "dim"), (stage.loss, "bold"))
        if self._has_sparks and stage.losses:
            loss = Text.assemble(loss, " ", (sparkline(stage.losses, width=_WIDE_SPARK if is_wide else _SPARK), "cyan"))
        busy = _texts(figures.machine(stage))
        spent = _texts(figures.time_and_cost(stage, self._clock()))
        lines = [[loss, *_texts(figures.learning(stage))], *([[*busy, *spent]] if is_wide else [busy, spent])]
        return Padding(Group(*[Phrases(*line, gap=3) for line in lines if line]), (0, 0, 0, 2))

    def _name(self, stage: Stage) -> Text:
        frame = self._frames[int(self._clock() * _FRAMES_PER_S) % len(self._frames)]
        return Text.assemble((frame, "cyan"), " ", (stage.name, "bold"))

    def _measures(self, stage: Stage) -> tuple[Text, Text, Text]:
        loss = Text.assemble(("loss ", "dim"), stage.loss) if stage.loss else Text()
        spark = Text(sparkline(stage.losses, width=_SPARK), "cyan") if self._has_sparks else Text()
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


def _texts(phrases: Sequence[figures.Phrase]) -> list[Text]:
    return [Text.assemble((f"{phrase.name} " if phrase.name else "", "dim"), phrase.value) for phrase in phrases]


def _grid() -> Table:
    return Table.grid(padding=(0, 2, 0, 0), pad_edge=False, expand=True)


def _bar(stage: Stage) -> ProgressBar | None:
    if stage.step is None or not stage.total:
        return None
    return ProgressBar(
        total=stage.total, completed=stage.step, width=None, complete_style="cyan", finished_style="green"
    )
