"""Shows a sweep as it runs: one line per running trial in a terminal, plain lines everywhere else."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Protocol

from largeforge.console.text import clean, duration, number
from largeforge.console.text import clock as as_clock

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import IO, Self

    from rich.console import RenderableType

    from largeforge.console.board import Stage
    from largeforge.sweep.folder import Trial
    from largeforge.sweep.process import Running

_PLAIN_INTERVAL_S = 30.0
"""Seconds between two plain lines of one trial."""
_REFRESH_PER_S = 4


class View(Protocol):
    """Is told what happens to trials."""

    def started(self, running: Running) -> None: ...

    def progressed(self, running: Running) -> None: ...

    def ended(self, trial: Trial) -> None: ...


def short_keys(keys: Mapping[str, object] | list[str]) -> dict[str, str]:
    """Return each key's last part, or all of it where two keys end alike."""
    ends = Counter(key.rpartition(".")[2] for key in keys)
    return {key: end if ends[end := key.rpartition(".")[2]] == 1 else key for key in keys}


def short_values(values: Mapping[str, str]) -> str:
    """Return a trial's values as `learning_rate=0.0001 lora_r=8`."""
    return " ".join(f"{name}={clean(values[key])}" for key, name in short_keys(values).items())


def outcome(trial: Trial, objective: str) -> str:
    """Return how a trial ended, in a few words."""
    value = trial.metrics.get(objective)
    known = f"{objective} {number(value)}" if value is not None else ""
    first = next(iter(clean_reason(trial.reason)), "")
    return "  ".join(part for part in (known, first) if part)


def clean_reason(reason: str) -> list[str]:
    """Return what is worth showing of a reason, without the line that counts problems."""
    lines = [clean(line).removeprefix("- ") for line in reason.splitlines()]
    kept = [line for line in lines if line and not line.endswith("in the recipe:")]
    return kept or [line for line in lines if line]


def _where(stage: Stage) -> str:
    parts = [stage.name, stage.steps]
    parts += [f"loss {stage.loss}"] if stage.loss else []
    left = stage.left(time.time())
    parts += [f"{as_clock(left)} left"] if left is not None else []
    return "  ".join(part for part in parts if part)


class _Counts:
    """What both views count."""

    def __init__(self, total: int, objective: str, known: Mapping[int, Trial]):
        self.total, self.objective = total, objective
        self._known = known
        self.began = time.time()

    def summary(self) -> str:
        """Return `3 of 12 done, 1 failed, 2 running`, with the time so far."""
        states = Counter(trial.state for trial in list(self._known.values()))
        words = [f"{states['done']} of {self.total} done"]
        words += [f"{states[name]} {name}" for name in ("refused", "failed", "invalid", "running") if states[name]]
        return f"{', '.join(words)}  {as_clock(time.time() - self.began)}"


class PlainView(_Counts):
    """Lines for logs and pipes."""

    def __init__(self, total: int, objective: str, known: Mapping[int, Trial], stream: IO[str] | None = None):
        super().__init__(total, objective, known)
        self._stream = stream or sys.stdout
        self._shown: dict[int, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def started(self, running: Running) -> None:
        trial = running.trial
        self._shown[trial.number] = time.time()
        place = f"  GPU {trial.gpus}" if trial.gpus else ""
        self._line(f"#{trial.name} started  {short_values(trial.values)}{place}")

    def progressed(self, running: Running) -> None:
        now, trial = time.time(), running.trial
        stage = next(iter(running.board.running.values()), None)
        if stage is None or now - self._shown.get(trial.number, -math.inf) < _PLAIN_INTERVAL_S:
            return
        self._shown[trial.number] = now
        self._line(f"#{trial.name} {_where(stage)}")

    def ended(self, trial: Trial) -> None:
        took = f"  {duration(trial.seconds)}" if trial.seconds else ""
        self._line(f"#{trial.name} {trial.state}  {outcome(trial, self.objective)}{took}  [{self.summary()}]")

    def _line(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class LiveView(_Counts):
    """Trials that ended scroll up; those that run stay below, one line each."""

    _MARKS = {"done": ("✓", "green"), "refused": ("✗", "yellow"), "interrupted": ("…", "yellow")}

    def __init__(self, total: int, objective: str, known: Mapping[int, Trial]):
        from rich.console import Console
        from rich.live import Live

        super().__init__(total, objective, known)
        self._running: dict[int, Running] = {}
        self._screen = Console()
        self._live = Live(
            console=self._screen, get_renderable=self._render, transient=True, refresh_per_second=_REFRESH_PER_S
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def started(self, running: Running) -> None:
        self._running[running.trial.number] = running

    def progressed(self, running: Running) -> None:
        pass  # the live view reads the boards of running trials as it draws

    def ended(self, trial: Trial) -> None:
        from rich.text import Text

        self._running.pop(trial.number, None)
        sign, style = self._MARKS.get(trial.state, ("✗", "red"))
        told = outcome(trial, self.objective) or trial.state
        took = f"  {duration(trial.seconds)}" if trial.seconds else ""
        line = Text.assemble((sign, style), f" #{trial.name} ", (told, "bold"), "  ", short_values(trial.values))
        self._screen.print(Text.assemble(line, (took, "dim")))

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2, 0, 0), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, ratio=2, overflow="ellipsis")
        table.add_column(ratio=1)
        table.add_column(no_wrap=True, justify="right")
        for running in list(self._running.values()):
            stage = next(iter(running.board.running.values()), None)
            bar: RenderableType = Text("")
            if stage and stage.total and stage.step is not None:
                bar = ProgressBar(total=stage.total, completed=stage.step, complete_style="cyan")
            told = _where(stage) if stage else "" if running.trial.run_dir else "starting"
            values = Text(short_values(running.trial.values), "dim")
            table.add_row(Text(f"#{running.trial.name}", "bold"), values, bar, Text(told))
        return Group(table, Text(f"  {self.summary()}", "dim"))


def make_view(total: int, objective: str, known: Mapping[int, Trial]) -> PlainView | LiveView:
    """Return the live view on a terminal that can show it, plain lines elsewhere."""
    from largeforge.console import is_capable

    return (LiveView if is_capable(sys.stdout) else PlainView)(total, objective, known)
