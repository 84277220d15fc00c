"""Events as plain lines, for logs and pipes: no control characters, no colour, nothing overwritten."""

from __future__ import annotations

import os
import sys
from typing import IO

from rich.cells import cell_len

from largeforge.console import figures, gates
from largeforge.console.base import Console, Event
from largeforge.console.board import Stage, event_time
from largeforge.console.tables import numeric_columns, table_parts
from largeforge.console.text import clean, clean_lines, clock, duration, finite, number

_INTERVAL_S = 5.0
_SHARE = 0.1
_MAX_CELL = 60
_MAX_METRICS = 4


class PlainConsole(Console):
    """Writes each line at once, so that a pipe or a log is never behind the run."""

    def __init__(self, stream: IO[str]):
        super().__init__()
        self._stream = stream
        self._shown: dict[str, tuple[float, float]] = {}
        """Time and step of the last progress line of each stage."""
        self._is_open = True

    def close(self) -> None:
        """Flush what is left; the stream itself stays open."""
        if self._is_open:
            self._write("")

    def _run_started(self, event: Event, stage: Stage) -> None:
        self._line(event, f"run {clean(event.get('recipe', ''))}  {clean(event.get('description') or '')}")
        self._line(event, f"{len(self.board.names)} stages  {clean(event.get('run_dir') or '')}")

    def _started(self, event: Event, stage: Stage) -> None:
        self._shown.pop(stage.name, None)
        self._line(event, f"started  {stage.title}")

    def _progress(self, event: Event, stage: Stage) -> None:
        if self._is_due(stage):
            self._shown[stage.name] = (stage.seen, stage.step or 0.0)
            self._line(event, "  ".join(_progress_parts(stage)))

    def _eval(self, event: Event, stage: Stage) -> None:
        told = [f"{name} {number(value)}" for name, value in list(stage.heldout.items())[:_MAX_METRICS]]
        if told:
            self._line(event, "  ".join([f"held out at step {stage.heldout_step:g}", *told]))

    def _is_due(self, stage: Stage) -> bool:
        """Say whether a line is due: after 5 s (5 % of the time in long stages), 10 % of the steps, or at the end."""
        if stage.name not in self._shown:
            return True
        seen, step = self._shown[stage.name]
        waited, advanced = stage.seen - seen, (stage.step or 0.0) - step
        if waited >= max(_INTERVAL_S, 0.05 * (stage.seen - stage.since)):
            return True
        if not stage.total or advanced <= 0:
            return False
        return stage.step == stage.total or (waited >= 1 and advanced >= _SHARE * stage.total)

    def _note(self, event: Event, stage: Stage) -> None:
        for line in clean_lines(event.get("text") or ""):
            self._line(event, line)

    def _table(self, event: Event, stage: Stage) -> None:
        self._line(event, clean(event.get("title") or "table"))
        for row in _aligned(event):
            self._write(f"{'':9} {row}".rstrip() + "\n")

    def _gate(self, event: Event, stage: Stage) -> None:
        word = "passed" if event.get("passed") is True else gates.outcome(event).upper()
        condition, around = clean(event.get("condition") or ""), gates.around(event)
        judged = f"{clean(event.get('metric') or '')} {gates.figure(event)}".rstrip()
        self._line(event, f"gate {word}  {judged}  ({'; '.join(filter(None, (condition, around)))})")

    def _answer(self, event: Event, stage: Stage) -> None:
        parts = [clean(event.get("expert") or ""), clean(event.get("client") or "")]
        parts += ["streamed"] if event.get("stream") is True else []
        latency = finite(event.get("latency_ms"))
        parts += [f"{latency:.0f} ms"] if latency is not None else []
        self._line(event, f"asked   {clean(event.get('prompt') or '')}")
        self._line(event, f"answer  {clean(event.get('text') or '')}  [{', '.join(filter(None, parts))}]")

    def _finished(self, event: Event, stage: Stage) -> None:
        seconds = finite(event.get("seconds"))
        told = figures.summary(stage) if stage.is_training else stage.outcome
        parts = ["reused" if event.get("reused") is True else "done", *told]
        parts += [duration(seconds)] if seconds is not None and event.get("reused") is not True else []
        self._line(event, "  ".join(parts))

    def _failed(self, event: Event, stage: Stage) -> None:
        lines = self._new_error(event)
        if lines is None:
            return
        self._line(event, f"FAILED  {lines[0] if lines else ''}")
        for line in lines[1:]:
            self._line(event, f"        {line}")

    def _run_finished(self, event: Event, stage: Stage) -> None:
        seconds = finite(event.get("seconds"))
        self._line(event, f"run done  {duration(seconds) if seconds is not None else ''}")
        if event.get("report"):
            self._line(event, f"report  {clean(event['report'])}")
        steps = event.get("next")
        for step in steps if isinstance(steps, list) else []:
            if isinstance(step, dict):
                self._write(f"\n  {clean(step.get('text') or '')}\n    {clean(step.get('command') or '')}\n")

    def _run_failed(self, event: Event, stage: Stage) -> None:
        is_interrupted = event.get("exit_code") == 130
        lines = self._new_error(event) or [""]
        self._line(event, f"run {'interrupted' if is_interrupted else 'FAILED'}  {lines[0]}")
        for line in lines[1:]:
            self._line(event, f"  {line}")
        if event.get("resume_command"):
            self._write(f"\n  Continue with\n    {clean(event['resume_command'])}\n")

    def _line(self, event: Event, text: str) -> None:
        stamp = f"{self.board.elapsed(event_time(event)):.1f}s"
        name = clean(event.get("stage", ""))
        label = f"{name}{' ' * (self.board.name_width - cell_len(name))}  " if name else ""
        self._write(f"{stamp:>8}  {label}{text}".rstrip() + "\n")

    def _write(self, text: str) -> None:
        """Write and flush; when the reader has gone the run goes on without a view."""
        if not self._is_open:
            return
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        try:
            self._stream.write(text.encode(encoding, "replace").decode(encoding))
            self._stream.flush()
        except BrokenPipeError:
            self._is_open = False
            _silence(self._stream)


def _silence(stream: IO[str]) -> None:
    """Point a broken standard output at nothing, so that Python's last flush at exit finds no broken pipe."""
    if stream is sys.stdout:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)


def _progress_parts(stage: Stage) -> list[str]:
    unit = "step" if stage.unit == "steps" else stage.unit
    parts = [f"{unit} {stage.steps}"] if stage.steps else ["working"]
    parts += [f"loss {stage.loss}"] if stage.loss else []
    rate = [figures.Phrase("lr", number(stage.figures["learning_rate"]))] if "learning_rate" in stage.figures else []
    parts += [str(phrase) for phrase in (*rate, *figures.machine(stage))]
    left = stage.left(stage.seen)
    parts += [f"{clock(left)} left"] if left else []
    return parts + [str(phrase) for phrase in (*figures.cost(stage), *figures.saved(stage))]


def _aligned(event: Event) -> list[str]:
    """Return a table as lines: header, rule, rows; columns of numbers stand on the right."""
    columns, rows = table_parts(event)
    cells = [[_short(number(cell)) for cell in row] for row in rows]
    header = [_short(column) for column in columns]
    widths = [max(map(cell_len, column)) for column in zip(header, *cells, strict=True)]
    rights = numeric_columns(rows, len(columns))
    lines = [header, ["-" * width for width in widths], *cells]
    return ["  ".join(map(_padded, line, widths, rights)) for line in lines]


def _short(text: str) -> str:
    return text if len(text) <= _MAX_CELL else text[: _MAX_CELL - 1] + "…"


def _padded(text: str, width: int, is_right: bool) -> str:
    space = " " * (width - cell_len(text))
    return space + text if is_right else text + space
