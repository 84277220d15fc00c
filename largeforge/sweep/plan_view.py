"""What a sweep is about to do: each trial with what is wrong with it, before anything starts."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from typing import TYPE_CHECKING

from largeforge.console.text import clean, clean_lines
from largeforge.errors import listed
from largeforge.forecast.text import dollars, duration
from largeforge.runs import relative, statuses
from largeforge.sweep.view import clean_reason, short_keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from largeforge.sweep.folder import About, Folder, Trial
    from largeforge.sweep.prepare import Planned
    from largeforge.sweep.request import Request
    from largeforge.sweep.slots import Slot

_MAX_ROWS = 50


def show(request: Request, checked: Sequence[Planned], about: About, room: Sequence[Slot], folder: Folder) -> int:
    """Print the trials of `mode=plan`; return 2 when one is invalid, else 0."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    console.print(Text(_headline(request, about, room)))
    if request.settings.name == "optuna":
        console.print(
            Text("The trials are chosen as the sweep runs; checked here: each value, and each interval's ends.")
        )
    names = short_keys([space.key for space in about.spaces])
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("trial", *names.values()):
        table.add_column(Text(name), justify="right", overflow="fold")
    table.add_column("what")
    for planned in checked[:_MAX_ROWS]:
        cells = [f"#{planned.number:03}", *(clean(planned.values[key]) for key in names)]
        table.add_row(*map(Text, cells), Text(_what(planned), "red" if planned.problem else ""))
    console.print(table)
    if len(checked) > _MAX_ROWS:
        console.print(Text(f"and {len(checked) - _MAX_ROWS} more"))
    if total := _total(request, checked):
        console.print(Text(f"\n{total}"))
    command = shlex.join(["python", "-m", "largeforge", "-m", *(w for w in request.words if not _is_mode(w))])
    console.print(Text(f"\nResults: {relative(folder.path)}\nRun it: {command}"), soft_wrap=True)
    return 2 if complain(checked) else 0


def announce(
    request: Request, about: About, checked: Sequence[Planned], kept: Sequence[Trial], room: Sequence[Slot],
    folder: Folder,
) -> None:  # fmt: skip
    """Print what begins now."""
    print(_headline(request, about, room))
    if kept:
        states = Counter(trial.state for trial in kept)
        told = ", ".join(f"{count} {state}" for state, count in states.items())
        print(f"continuing: {told} before")
    print(f"{relative(folder.path)}\n", flush=True)
    complain(checked)


def complain(checked: Sequence[Planned]) -> int:
    """Print what is wrong with invalid trials to the standard error; return how many there are."""
    invalid = [planned for planned in checked if planned.problem]
    if not invalid:
        return 0
    print(f"{len(invalid)} of {len(checked)} trials are invalid and will not run:", file=sys.stderr)
    groups: dict[str, list[str]] = {}
    for planned in invalid:
        groups.setdefault(planned.problem, []).append(f"#{planned.number:03}")
    for problem, names in list(groups.items())[:_MAX_ROWS]:
        lines = clean_lines(problem)
        kept = [line.removeprefix("  - ") for line in lines if line and not line.endswith("in the recipe:")]
        print(f"  {listed(names, 8)}: " + "\n    ".join(kept), file=sys.stderr)
    sys.stderr.flush()
    return len(invalid)


def _headline(request: Request, about: About, room: Sequence[Slot]) -> str:
    slot = room[0]
    each = f"{slot.cores} core{'s' if slot.cores > 1 else ''}"
    if slot.gpus:
        each = f"{len(slot.gpus)} GPU{'s' if len(slot.gpus) > 1 else ''}, {each}"
    goal = f", to {about.direction} {about.objective}" if about.objective else ""
    how = {"grid": ""}.get(request.settings.name, f" chosen by Optuna ({request.settings.sampler})")
    count = f"{about.num_trials} trial{'s' if about.num_trials > 1 else ''}"
    return f"{about.recipe}: {count}{how}{goal}; {len(room)} at a time ({each} each)"


def _what(planned: Planned) -> str:
    if planned.plan is None:
        return f"invalid: {clean_reason(planned.problem)[0]}"
    found = statuses(planned.plan)
    states = Counter(found.get(stage.name, "to run") for stage in planned.plan.stages)
    told = ", ".join(f"{states[state]} {state}" for state in ("to run", "reusable", "done") if states[state])
    expected = f"; {duration(planned.hours)}" if planned.hours and states["to run"] else ""
    price = f", {dollars(planned.cost)}" if planned.cost and expected else ""
    return f"{len(planned.plan.stages)} stages: {told}{expected}{price}"


def _total(request: Request, checked: Sequence[Planned]) -> str:
    """Return hours and price of all trials of a grid one after the other; empty where they are not known."""
    hours = [planned.hours for planned in checked if planned.hours]
    if request.settings.name != "grid" or not hours:
        return ""
    costs = [planned.cost for planned in checked if planned.cost]
    price = f", {dollars(sum(costs[1:], costs[0]))}" if costs else ""
    return f"Working time of all trials: {duration(sum(hours[1:], hours[0]))}{price}"


def _is_mode(word: str) -> bool:
    return word.lstrip("+").startswith("mode=")
