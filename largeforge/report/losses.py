"""The report's section of curves: loss, learning rate and speed of every stage that trained."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any

from largeforge.console.text import clean, count, finite, number
from largeforge.report import charts
from largeforge.report.html import esc, section

if TYPE_CHECKING:
    from collections.abc import Callable

    from largeforge.report.facts import Facts, Stage

Curve = list[float | None]

_NOTE = "The strong line is smoothed. Point at a curve, or focus it and use the arrow keys, to read its values."
_LARGEST = 1e100
_READOUT: dict[str, Callable[[float], str]] = {
    "loss": lambda loss: f"loss {number(loss)}",
    "smooth": lambda loss: f"smoothed {number(loss)}",
    "learning_rate": lambda rate: f"learning rate {number(rate)}",
    "tokens_per_s": lambda speed: f"{count(speed)} tok/s",
}


def losses(facts: Facts) -> str:
    """Return one card of curves for each stage that reported a loss."""
    cards = "".join(_card(stage) for stage in facts.stages if stage.progress)
    return section("loss", "Loss", f'<div class="cards">{cards}</div>' if cards else "", note=_NOTE)


def _card(stage: Stage) -> str:
    steps, curves, missing = _curves(stage)
    known = [loss for loss in curves["smooth"] if loss is not None]
    if not known:
        return f'<div class="card"><h3>{esc(stage.name)}</h3><p class="bad">✗ No step had a finite loss.</p></div>'
    first_to_last = f"{number(known[0])} → {number(known[-1])}"
    label = f"Loss of {clean(stage.name)}, smoothed: {first_to_last}"
    warning = f'<p class="bad">✗ {missing} of {len(stage.progress)} reports had no finite loss.</p>' if missing else ""
    chart = charts.line_chart(steps, [("raw", curves["loss"]), ("smooth", curves["smooth"])], label=label)
    small = _small("Learning rate", steps, curves["learning_rate"])
    small += _small("Tokens per second", steps, curves["tokens_per_s"], as_text=count)
    readout = _readout(steps, curves)
    output = f"<output>{escape(readout['text'][-1])}</output>"
    return (
        f'<figure class="card" tabindex="0" data-curve="{escape(json.dumps(readout))}">'
        f"<figcaption><h3>{esc(stage.name)}</h3><span>{first_to_last}</span></figcaption>"
        f'{chart}{output}{warning}<div class="small-charts">{small}</div></figure>'
    )


def _curves(stage: Stage) -> tuple[list[float], dict[str, Curve], int]:
    """Return steps and curves thinned alike, and how many reports had no finite loss."""
    every = {name: [_drawable(event.get(name)) for event in stage.progress] for name in _READOUT if name != "smooth"}
    every["smooth"] = charts.smooth(every["loss"])
    kept = charts.thin(every["loss"])
    steps = [float(stage.progress[index]["step"]) for index in kept]
    thinned = {name: [every[name][index] for index in kept] for name in _READOUT}
    return steps, thinned, every["loss"].count(None)


def _drawable(value: object) -> float | None:
    """Return a value that arithmetic cannot push past the largest float, or None: a gap."""
    known = finite(value)
    return known if known is not None and abs(known) < _LARGEST else None


def _small(title: str, steps: list[float], curve: Curve, *, as_text: Callable[[float], str] | None = None) -> str:
    lines = [("second", curve)]
    options: dict[str, Any] = {"height": 72, "num_ticks": 2, "has_x_labels": False, "from_zero": True}
    chart = charts.line_chart(steps, lines, label=title, as_text=as_text, **options)
    return f"<div><h4>{title}</h4>{chart}</div>" if chart else ""


def _readout(steps: list[float], curves: dict[str, Curve]) -> dict[str, list[Any]]:
    """Return what the pointer reads at each step: places in percent, and texts."""
    low, high = min(steps), max(steps)
    places = [round((step - low) / (high - low) * 100, 2) if high > low else 50 for step in steps]
    texts = [_point(step, {name: curve[index] for name, curve in curves.items()}) for index, step in enumerate(steps)]
    return {"x": places, "text": texts}


def _point(step: float, values: dict[str, float | None]) -> str:
    said = [say(value) for name, say in _READOUT.items() if (value := values[name]) is not None]
    return "  ".join([f"step {step:g}", *said])
