"""Rank the trials of a sweep, and write them as a table for the terminal and as CSV."""

from __future__ import annotations

import csv
import io
import shlex
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge import artifacts
from largeforge.console.text import clean, duration, number
from largeforge.runs import relative
from largeforge.sweep.objective import BASE
from largeforge.sweep.view import clean_reason, short_keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from largeforge.sweep.folder import About, Trial

CSV = "leaderboard.csv"

_ORDER = ("done", "running", "refused", "interrupted", "failed", "invalid")
_MAX_METRICS = 4
"""Metrics besides the objective that a terminal has room for; the CSV has all of them."""
_STYLES = {
    "done": "",
    "running": "cyan",
    "refused": "yellow",
    "interrupted": "yellow",
    "failed": "red",
    "invalid": "red",
}


@dataclass(frozen=True)
class Entry:
    """A trial with its place."""

    rank: int | None
    """1 for the best; None for trials that are not done or have no objective."""
    trial: Trial
    objective: float | None


def rank(trials: Sequence[Trial], about: About) -> list[Entry]:
    """Return all trials, the best first, then by state those that have no rank; equal objectives by number."""

    def place(trial: Trial) -> tuple[int, bool, float, int]:
        value = trial.metrics.get(about.objective)
        signed = 0.0 if value is None else value if about.is_minimized else -value
        return _ORDER.index(trial.state), value is None, signed, trial.number

    entries = []
    for index, trial in enumerate(sorted(trials, key=place), 1):
        value = trial.metrics.get(about.objective)
        entries.append(Entry(index if trial.state == "done" and value is not None else None, trial, value))
    return entries


def best(entries: Sequence[Entry]) -> Trial | None:
    """Return the trial on the first place; None while there is none."""
    return entries[0].trial if entries and entries[0].rank == 1 else None


def command(trial: Trial) -> str:
    """Return the command that runs a trial again: it reuses what is there, then registers and serves too."""
    return shlex.join(["python", "-m", "largeforge", *trial.words])


def counts(trials: Sequence[Trial]) -> str:
    """Return how many trials are in which state, as `3 done, 1 failed`."""
    found: Counter[str] = Counter(trial.state for trial in trials)
    return ", ".join(f"{found[state]} {state}" for state in _ORDER if found[state])


def metrics(trials: Sequence[Trial]) -> list[str]:
    """Return the names of all metrics in the order in which they first appear."""
    return list(dict.fromkeys(name for trial in trials for name in trial.metrics))


def write_csv(path: Path, entries: Sequence[Entry], about: About) -> None:
    """Write one line a trial with everything that is known of it."""
    keys = [space.key for space in about.spaces]
    names = metrics([entry.trial for entry in entries])
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    last = ["seconds", "exit_code", "reason", "run_dir", "command"]
    writer.writerow(["rank", "trial", "state", "objective", *keys, *names, *last])
    for entry in entries:
        trial = entry.trial
        values = [trial.values.get(key, "") for key in keys]
        measured = [trial.metrics.get(name, "") for name in names]
        reason = "; ".join(clean_reason(trial.reason))
        end = [
            trial.seconds,
            trial.exit_code,
            reason,
            relative(Path(trial.run_dir)) if trial.run_dir else "",
            command(trial),
        ]
        objective = "" if entry.objective is None else entry.objective
        writer.writerow([entry.rank or "", trial.number, trial.state, objective, *values, *measured, *end])
    artifacts.write_text(path, stream.getvalue())


def print_leaderboard(console: Console, entries: Sequence[Entry], about: About, page: str) -> None:
    """Print table, reasons, where the page is, and the command that reruns the best."""
    from rich.text import Text

    console.print(table(entries, about))
    for entry in entries:
        lines = clean_reason(entry.trial.reason)
        if lines and entry.trial.state not in ("done", "running"):
            shown = Text.assemble((f"#{entry.trial.name} {entry.trial.state}: ", "bold"), "\n  ".join(lines[:6]))
            console.print(shown, soft_wrap=True)
    console.print(Text(f"\n{counts([entry.trial for entry in entries])} of {about.num_trials}", "bold"))
    console.print(Text(f"Page: {page}"), soft_wrap=True)
    winner = best(entries)
    if winner is not None:
        console.print(Text.assemble("Run the best again:  ", (command(winner), "cyan")), soft_wrap=True)


def table(entries: Sequence[Entry], about: About) -> Table:
    """Return the leaderboard for a terminal."""
    from rich.table import Table
    from rich.text import Text

    keys = short_keys([space.key for space in about.spaces])
    others = other_metrics(entries, about)[:_MAX_METRICS]
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name, is_number in [("rank", True), ("trial", True), (about.objective or "objective", True)]:
        shown.add_column(Text(name), justify="right" if is_number else "left", no_wrap=name != about.objective)
    for name in keys.values():
        shown.add_column(Text(name), justify="right", overflow="fold")
    for name in others:
        shown.add_column(Text(name, "dim"), justify="right", overflow="fold")
    shown.add_column("time", justify="right", no_wrap=True)
    shown.add_column("state", no_wrap=True)
    for entry in entries:
        trial = entry.trial
        cells = [str(entry.rank or "–"), f"#{trial.name}", number(entry.objective) or "–"]
        cells += [clean(trial.values.get(key, "")) for key in keys]
        cells += [number(trial.metrics.get(name)) for name in others]
        cells += [duration(trial.seconds) if trial.seconds else "", trial.state]
        style = "bold green" if entry.rank == 1 else _STYLES[trial.state]
        shown.add_row(*map(Text, cells), style=style)
    return shown


def other_metrics(entries: Sequence[Entry], about: About) -> list[str]:
    """Return metrics to show beside the objective: those that differ between trials, but not the base model's."""
    found = []
    for name in metrics([entry.trial for entry in entries]):
        values = {entry.trial.metrics[name] for entry in entries if name in entry.trial.metrics}
        if name != about.objective and len(values) > 1 and f".{BASE}" not in f".{name}":
            found.append(name)
    return sorted(found, key=lambda name: "train." in name or "prepare." in name)
