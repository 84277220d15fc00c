"""`sweep.html`: the leaderboard with plots of the objective against each key, in the look of the report."""

from __future__ import annotations

import os
import shlex
from html import escape
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge import artifacts
from largeforge.console.text import duration, number
from largeforge.report.html import command, esc, esc_lines, pairs, section
from largeforge.report.page import fill
from largeforge.sweep import charts, leaderboard
from largeforge.sweep.charts import Point
from largeforge.sweep.view import clean_reason, short_keys, short_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from largeforge.sweep.folder import About, Folder
    from largeforge.sweep.leaderboard import Entry

PAGE = "sweep.html"

_NAVIGATION = {
    "best": "Best",
    "parameters": "Parameters",
    "history": "History",
    "leaderboard": "Leaderboard",
    "reasons": "Not done",
    "sweep": "Sweep",
}
_POINT_NOTE = (
    "Each point is a trial and leads to its row; the best one is filled in the accent colour. Hollow points were "
    "refused by a gate, or lie beyond the edge."
)


def write(folder: Folder, entries: Sequence[Entry], about: About) -> Path:
    """Build `sweep.html` in the folder of a sweep, and return its path."""
    path = folder.path / PAGE
    artifacts.write_text(path, render(folder, entries, about))
    return path


def render(folder: Folder, entries: Sequence[Entry], about: About) -> str:
    """Return the page of a sweep as HTML."""
    body = _best(entries, about) + _parameters(entries, about) + _history(entries, about)
    body += _board(folder, entries, about) + _reasons(entries) + _about(about)
    return fill(
        title=f"{about.recipe} sweep · LargeForge",
        header=_header(entries, about),
        navigation=_NAVIGATION,
        body=body,
        footer="Written by LargeForge from the records of this sweep's trials.",
        style=resources.files("largeforge.sweep").joinpath("style.css").read_text(encoding="utf-8").strip(),
    )


def _header(entries: Sequence[Entry], about: About) -> str:
    trials = [entry.trial for entry in entries]
    done = sum(trial.state == "done" for trial in trials)
    bad = sum(trial.state in ("failed", "invalid", "refused") for trial in trials)
    winner = entries[0] if leaderboard.best(entries) else None
    tiles = [
        (f"Best {esc(about.objective)}", escape(number(winner.objective)) if winner else "–"),
        ("Trials done", f"{done} of {about.num_trials}"),
        ("Failed or refused", f'<span class="bad">{bad}</span>' if bad else "0"),
        ("Working time", escape(duration(sum(trial.seconds for trial in trials)))),
    ]
    boxes = "".join(f"<div><dt>{name}</dt><dd>{text}</dd></div>" for name, text in tiles)
    goal = f"{len(about.spaces)} keys, to {about.direction} {about.objective}" if about.objective else ""
    return (
        f'<header><p class="eyebrow">LargeForge sweep</p><h1>{esc(about.recipe)}</h1><p class="lead">{esc(goal)}</p>'
        f'<dl class="tiles">{boxes}</dl></header>'
    )


def _best(entries: Sequence[Entry], about: About) -> str:
    trial = leaderboard.best(entries)
    if trial is None:
        return ""
    values = pairs((space.key, esc(trial.values.get(space.key, ""))) for space in about.spaces)
    note = "Runs it again: what it made is reused, and the model is registered and served as the recipe says."
    body = f'<div class="card"><h3>Trial #{trial.name}</h3>{values}{command(leaderboard.command(trial))}</div>'
    return section("best", "Best", body, note=note)


def _points(entries: Sequence[Entry], about: About) -> list[Point]:
    """Return the trials that have an objective, by number."""
    found = []
    for entry in sorted(entries, key=lambda entry: entry.trial.number):
        trial = entry.trial
        if entry.objective is None or trial.state not in ("done", "refused"):
            continue
        texts = tuple(trial.values.get(space.key, "") for space in about.spaces)
        tooltip = f"#{trial.name}  {about.objective} {number(entry.objective)}  {short_values(trial.values)}"
        found.append(
            Point(trial.name, entry.objective, texts, tooltip, entry.rank == 1, is_refused=trial.state == "refused")
        )
    return found


def _parameters(entries: Sequence[Entry], about: About) -> str:
    points = _points(entries, about)
    if not points or not about.spaces:
        return ""
    scale = charts.objective_scale([point.value for point in points], is_minimized=about.is_minimized)
    cards = []
    for index, space in enumerate(about.spaces):
        label = f"{about.objective} against {space.key}"
        drawn = charts.against(points, index, space, scale, label=label)
        kind = "<span>logarithmic</span>" if space.is_log else ""
        caption = f"<figcaption><h3>{esc(space.key)}</h3>{kind}</figcaption>"
        cards.append(f'<figure class="card">{caption}{drawn}</figure>')
    together = ""
    if len(about.spaces) > 1 and len(points) > 1:
        drawn = charts.parallel(points, about.spaces, scale, about.objective)
        scrolling = f'<div class="scroll" tabindex="0" role="group" aria-label="All together">{drawn}</div>'
        together = f'<figure class="card together"><figcaption><h3>All together</h3></figcaption>{scrolling}</figure>'
    note = f"{esc(about.objective)} of each trial against each key. {_POINT_NOTE}"
    return section("parameters", "Parameters", f'<div class="cards">{"".join(cards)}</div>{together}', note=note)


def _history(entries: Sequence[Entry], about: About) -> str:
    points = _points(entries, about)
    if len(points) < 2:
        return ""
    scale = charts.objective_scale([point.value for point in points], is_minimized=about.is_minimized)
    drawn = charts.history(points, scale, is_minimized=about.is_minimized, label=f"{about.objective} by trial")
    body = f'<figure class="card">{drawn}</figure>' if drawn else ""
    return section("history", "History", body, note="Trials in their order; the line is the best so far.")


def _board(folder: Folder, entries: Sequence[Entry], about: About) -> str:
    keys = short_keys([space.key for space in about.spaces])
    others = leaderboard.other_metrics(entries, about)
    names = ["", "trial", "state", about.objective or "objective", *keys.values(), "time", *others]
    classes = [' class="num"' if index > 2 else "" for index in range(len(names))]
    head = "".join(f'<th scope="col"{name}>{esc(text)}</th>' for name, text in zip(classes, names, strict=True))
    rows = "".join(_row(folder, entry, list(keys), others) for entry in entries)
    table = (
        '<div class="scroll" tabindex="0" role="group" aria-label="Leaderboard"><table class="board">'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
    note = "A trial's number leads to its report."
    return section("leaderboard", "Leaderboard", table if entries else "", note=note)


def _row(folder: Folder, entry: Entry, keys: list[str], others: list[str]) -> str:
    trial = entry.trial
    report = Path(trial.run_dir) / "report.html"
    name = f"#{trial.name}"
    if trial.run_dir and report.is_file():
        name = f'<a href="{esc(Path(os.path.relpath(report, folder.path)).as_posix())}">{name}</a>'
    numbers = [esc(number(entry.objective)) or "–", *(esc(trial.values.get(key, "")) for key in keys)]
    numbers.append(esc(duration(trial.seconds)) if trial.seconds else "")
    numbers += [esc(number(trial.metrics.get(other))) for other in others]
    cells = f'<td>{entry.rank or "–"}</td><td>{name}</td><td class="{trial.state}">{trial.state}</td>'
    cells += "".join(f'<td class="num">{text}</td>' for text in numbers)
    first = ' class="first"' if entry.rank == 1 else ""
    return f'<tr id="trial-{trial.name}"{first}>{cells}</tr>'


def _reasons(entries: Sequence[Entry]) -> str:
    items = "".join(
        f'<li class="card"><h3>#{entry.trial.name} {entry.trial.state}</h3>'
        f'<p class="muted">{esc(short_values(entry.trial.values))}</p>'
        f'<pre class="error">{esc_lines(chr(10).join(lines))}</pre></li>'
        for entry in entries
        if (lines := clean_reason(entry.trial.reason)) and entry.trial.state != "done"
    )
    return section("reasons", "Not done", f'<ul class="reasons">{items}</ul>' if items else "")


def _about(about: About) -> str:
    words = shlex.join(["python", "-m", "largeforge", "-m", *about.words])
    show = "python -m largeforge leaderboard"
    body = (
        f'<ul class="commands"><li><p>The sweep; run it again to continue</p>{command(words)}</li>'
        f"<li><p>Its leaderboard in the terminal</p>{command(show)}</li></ul>"
    )
    return section("sweep", "Sweep", body)
