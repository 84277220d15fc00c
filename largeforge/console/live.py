"""Events as a live view: finished stages scroll up, running ones stay below with bars and losses."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from largeforge.console import figures, gates
from largeforge.console.base import Console, Event
from largeforge.console.rows import Phrases, RunningView
from largeforge.console.tables import numeric_columns, table_parts
from largeforge.console.text import clean, clean_lines, duration, finite, number

if TYPE_CHECKING:
    from collections.abc import Callable

    import rich.console
    from rich.console import RenderableType

    from largeforge.console.board import Stage

_MAX_WIDTH = 120
_REFRESH_PER_SECOND = 8


class LiveConsole(Console):
    """Draws on a terminal; everything from events is printed as text, never as rich's markup."""

    def __init__(
        self, screen: rich.console.Console, *, clock: Callable[[], float] = time.time, auto_refresh: bool = True
    ):
        super().__init__()
        self._screen = screen
        self._clock = clock
        self._view = RunningView(self.board, clock, is_ascii=screen.options.ascii_only)
        self._live = Live(
            self._view,
            console=screen,
            transient=True,
            refresh_per_second=_REFRESH_PER_SECOND,
            auto_refresh=auto_refresh,
        )
        self._marks = ("ok", "!!", "->") if screen.options.ascii_only else ("✓", "✗", "→")

    def close(self) -> None:
        """Stop drawing and show the cursor again."""
        self._live.stop()

    def _print(self, renderable: RenderableType) -> None:
        self._screen.print(renderable, width=self._width)

    @property
    def _width(self) -> int:
        return min(self._screen.width, _MAX_WIDTH)

    def _run_started(self, event: Event, stage: Stage) -> None:
        head = Text.assemble((clean(event.get("recipe", "")), "bold"), "  ", clean(event.get("description") or ""))
        count = len(self.board.names)
        self._print(head)
        self._print(Text(f"{count} stages  {clean(event.get('run_dir') or '')}", "dim"))
        self._print("")

    def _started(self, event: Event, stage: Stage) -> None:
        self._live.start()

    def _progress(self, event: Event, stage: Stage) -> None:
        self._live.start()

    def _eval(self, event: Event, stage: Stage) -> None:
        self._live.start()

    def _note(self, event: Event, stage: Stage) -> None:
        for line in clean_lines(event.get("text") or ""):
            self._print(Padding(_said_by(stage, Text(line, "dim")), (0, 0, 0, 2)))

    def _table(self, event: Event, stage: Stage) -> None:
        columns, rows = table_parts(event)
        title = Text.assemble((clean(event.get("title") or "table"), "bold"))
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for column, is_number in zip(columns, numeric_columns(rows, len(columns)), strict=True):
            table.add_column(Text(column), justify="right" if is_number else "left", overflow="fold")
        for row in rows:
            table.add_row(*[Text(number(cell)) for cell in row])
        self._print(Padding(_said_by(stage, title), (0, 0, 0, 2)))
        self._print(Padding(table, (0, 0, 0, 4)))

    def _gate(self, event: Event, stage: Stage) -> None:
        is_passed = event.get("passed") is True
        mark, style = (self._marks[0], "green") if is_passed else (self._marks[1], "bold red")
        metric, condition = clean(event.get("metric") or ""), clean(event.get("condition") or "")
        words = {"passed": "passes", "failed": "fails", "not enough data": "is not sure to be"}[gates.outcome(event)]
        around = gates.around(event)
        parts = (
            Text(stage.name, "dim cyan"),
            Text.assemble((mark, style), f" {metric}"),
            Text(gates.figure(event), "bold"),
            Text(f"{words} {condition}", "dim" if is_passed else "red"),
            Text(f"({around})" if around else "", "dim"),
        )
        self._print(Padding(Phrases(*filter(None, parts)), (0, 0, 0, 2)))

    def _answer(self, event: Event, stage: Stage) -> None:
        latency = finite(event.get("latency_ms"))
        about = [clean(event.get("expert") or ""), clean(event.get("client") or "")]
        about += ["streamed"] if event.get("stream") is True else []
        about += [f"{latency:.0f} ms"] if latency is not None else []
        grid = Table.grid(padding=(0, 1, 0, 0), pad_edge=False)
        grid.add_row(Text("?", "cyan"), Text(clean(event.get("prompt") or "")))
        grid.add_row(Text(self._marks[2], "cyan"), Text(clean(event.get("text") or ""), "bold"))
        grid.add_row("", Text(" · ".join(filter(None, about)), "dim"))
        self._print(Padding(grid, (0, 0, 0, 2)))

    def _finished(self, event: Event, stage: Stage) -> None:
        is_reused = event.get("reused") is True
        seconds = finite(event.get("seconds"))
        took = "reused" if is_reused else duration(seconds) if seconds is not None else ""
        style = "dim" if is_reused else ""
        told = figures.summary(stage) if stage.is_training else stage.outcome
        grid = Table.grid(padding=(0, 2, 0, 0), pad_edge=False, expand=True)
        grid.add_column(min_width=min(self.board.name_width + 2, self._width // 3), overflow="fold")
        grid.add_column(ratio=1)
        grid.add_column(justify="right", no_wrap=True)
        grid.add_row(
            Text.assemble((self._marks[0], "green"), " ", (stage.name, style or "bold")),
            Phrases(*[Text(phrase, style) for phrase in told]),
            Text(took, "dim"),
        )
        self._print(grid)

    def _failed(self, event: Event, stage: Stage) -> None:
        lines = self._new_error(event)
        if lines is not None:
            self._print(Text.assemble((f"{self._marks[1]} {stage.name} failed", "bold red")))
            self._print(Padding(Text("\n".join(lines), "red"), (0, 0, 0, 2)))

    def _run_finished(self, event: Event, stage: Stage) -> None:
        self.close()
        seconds = finite(event.get("seconds"))
        took = f" in {duration(seconds)}" if seconds is not None else ""
        self._print(Text.assemble("\n", (f"{self._marks[0]} Done{took}", "bold green")))
        if event.get("report"):
            self._command("Report", event["report"])
        steps = event.get("next")
        for step in steps if isinstance(steps, list) else []:
            if isinstance(step, dict):
                self._command(step.get("text") or "", step.get("command") or "")

    def _run_failed(self, event: Event, stage: Stage) -> None:
        self.close()
        is_interrupted = event.get("exit_code") == 130
        style = "bold yellow" if is_interrupted else "bold red"
        self._print(Text.assemble("\n", (f"{self._marks[1]} {'Interrupted' if is_interrupted else 'Stopped'}", style)))
        lines = self._new_error(event)
        if lines:
            self._print(Padding(Text("\n".join(lines), "" if is_interrupted else "red"), (0, 0, 0, 2)))
        if event.get("resume_command"):
            self._command("Continue with", event["resume_command"])

    def _command(self, text: object, command: object) -> None:
        """Print something to copy: never wrapped by us, so that it pastes as one line."""
        self._screen.print(Text(f"\n  {clean(text)}", "dim"))
        self._screen.print(Text(f"  {clean(command)}", "cyan"), soft_wrap=True)


def _said_by(stage: Stage, text: Text) -> Text:
    return Text.assemble((f"{stage.name}  ", "dim cyan"), text) if stage.name else text
