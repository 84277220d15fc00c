"""The report's section of curves: what every stage that trained told of itself, step by step."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from largeforge.console.figures import gib, percent
from largeforge.console.measured import heldout_metrics, own_metrics
from largeforge.console.text import clean, count, dollars, duration, finite, number
from largeforge.report import charts
from largeforge.report.html import esc, section

if TYPE_CHECKING:
    from collections.abc import Callable

    from largeforge.report.facts import Facts, Stage

Curve = list[float | None]
Points = list[tuple[float, float]]

_NOTE = "The strong line is smoothed. Point at a curve, or focus it and use the arrow keys, to read its values."
_LARGEST = 1e100
_MAX_METRICS = 24
"""Figures of a method that are drawn; one with more shows the first by name."""
_MAX_MARKS = 100


class _Figure(NamedTuple):
    """A number of each progress event: title of its chart, how it reads under the pointer, how on an axis."""

    title: str
    say: Callable[[float], str]
    axis: Callable[[float], str] | None = None


_FIGURES = {
    "loss": _Figure("Loss", lambda value: f"loss {number(value)}"),
    "smooth": _Figure("", lambda value: f"smoothed {number(value)}"),
    "heldout": _Figure("", lambda value: f"held out {number(value)}"),
    "learning_rate": _Figure("Learning rate", lambda value: f"learning rate {number(value)}"),
    "grad_norm": _Figure("Gradient norm", lambda value: f"gradient norm {number(value)}"),
    "tokens_per_s": _Figure("Tokens per second", lambda value: f"{count(value)} tok/s", count),
    "mfu": _Figure("MFU", lambda value: f"MFU {percent(value)}", percent),
    "gpu_utilization": _Figure("GPU use", lambda value: f"GPU {percent(value)}", percent),
    "memory_gib": _Figure("Memory in GiB", lambda value: f"memory {gib(value)} GiB"),
}
_SMALL = ("learning_rate", "grad_norm", "tokens_per_s", "mfu", "gpu_utilization", "memory_gib")


def training(facts: Facts) -> str:
    """Return one card of curves for each stage that reported a loss."""
    cards = "".join(_card(stage) for stage in facts.stages if stage.progress)
    return section("training", "Training", f'<div class="cards">{cards}</div>' if cards else "", note=_NOTE)


def spent(facts: Facts) -> float | None:
    """Return what the trainings of this run have cost, where an hour has a price; a reused one cost nothing."""
    costs = [
        amount
        for stage in facts.stages
        if stage.progress and stage.state != "reused" and (amount := _last(stage, "cost_usd")) is not None
    ]
    return sum(costs) if costs else None


def _card(stage: Stage) -> str:
    every = {name: [_drawable(event.get(name)) for event in stage.progress] for name in _FIGURES}
    every["smooth"] = charts.smooth(every["loss"])
    heldout = _heldout(stage, "loss")
    known = [loss for loss in every["smooth"] if loss is not None]
    if not known:
        return f'<div class="card"><h3>{esc(stage.name)}</h3><p class="bad">✗ No step had a finite loss.</p></div>'
    kept = charts.thin(every["loss"])
    steps = [float(stage.progress[index]["step"]) for index in kept]
    curves = {name: [values[index] for index in kept] for name, values in every.items()}
    at_step = dict(heldout)
    curves["heldout"] = [at_step.get(step) for step in steps]
    domain = _domain(stage, steps)
    first_to_last = f"{number(known[0])} → {number(known[-1])}"
    chart = charts.line_chart(
        steps, [("raw", curves["loss"]), ("smooth", curves["smooth"])], domain=domain, points=heldout,
        marks=_marks(stage), label=f"Loss of {clean(stage.name)}, smoothed: {first_to_last}",
    )  # fmt: skip
    small = "".join(
        _small(_FIGURES[name].title, steps, curves[name], domain, axis=_FIGURES[name].axis) for name in _SMALL
    )
    small += _own(stage, kept, steps, domain)
    readout = _readout(steps, curves, domain)
    missing = every["loss"].count(None)
    warning = f'<p class="bad">✗ {missing} of {len(stage.progress)} reports had no finite loss.</p>' if missing else ""
    return (
        f'<figure class="card" tabindex="0" data-curve="{escape(json.dumps(readout))}">'
        f"<figcaption><h3>{esc(stage.name)}</h3><span>{first_to_last}</span></figcaption>"
        f"{_chips(stage)}{chart}{_legend(stage, heldout)}<output>{escape(readout['text'][-1])}</output>{warning}"
        f'<div class="small-charts">{small}</div></figure>'
    )


def _domain(stage: Stage, steps: list[float]) -> tuple[float, float]:
    places = [*steps, *(float(event["step"]) for event in (*stage.evals, *stage.checkpoints))]
    return min(places), max(places)


def _heldout(stage: Stage, name: str) -> Points:
    found = [
        (float(event["step"]), _drawable(heldout_metrics(event.get("metrics")).get(name))) for event in stage.evals
    ]
    return [(step, value) for step, value in found if value is not None]


def _marks(stage: Stage) -> list[tuple[float, str]]:
    """Return the checkpoints as places and classes; of very many, the newest."""
    found = stage.checkpoints[-_MAX_MARKS:]
    best = [event for event in stage.checkpoints if event.get("best") is True][-1:]
    marks = [(float(event["step"]), "saved best" if event in best else "saved") for event in found]
    return marks + [(float(event["step"]), "saved best") for event in best if event not in found]


def _chips(stage: Stage) -> str:
    """Return the figures of the whole training."""
    tokens, speed, mfu = finite(stage.metrics.get("tokens")), _last(stage, "tokens_per_s"), _last(stage, "mfu")
    memory, usable, cost = _last(stage, "memory_gib"), _last(stage, "usable_memory_gib"), _last(stage, "cost_usd")
    took = _last(stage, "seconds_so_far")
    said = [
        f"{int(stage.progress[-1]['step'])} steps",
        f"{count(tokens)} tokens" if tokens else "",
        duration(took) if took is not None else "",
        f"{count(speed)} tok/s" if speed is not None else "",
        f"MFU {percent(mfu)}" if mfu is not None else "",
        f"{gib(memory)}{f' of {gib(usable)}' if usable else ''} GiB at the peak" if memory is not None else "",
        dollars(cost) if cost is not None else "",
    ]
    return f'<p class="chips">{"".join(f"<span>{escape(word)}</span>" for word in said if word)}</p>'


def _legend(stage: Stage, heldout: Points) -> str:
    entries = [("smooth", "loss, smoothed"), ("raw", "loss of each report")]
    entries += [("heldout", f"held out, last {number(heldout[-1][1])}")] if heldout else []
    entries += [("saved", "checkpoint")] if stage.checkpoints else []
    entries += (
        [("saved best", "best checkpoint")] if any(event.get("best") is True for event in stage.checkpoints) else []
    )
    items = "".join(f'<li><i class="{name}"></i>{escape(text)}</li>' for name, text in entries)
    return f'<ul class="legend">{items}</ul>'


def _own(stage: Stage, kept: list[int], steps: list[float], domain: tuple[float, float]) -> str:
    """Return a chart for each figure of the method itself, with what was held out as points."""
    told = [own_metrics(event.get("metrics")) for event in stage.progress]
    judged = {name for event in stage.evals for name in heldout_metrics(event.get("metrics"))} - {"loss"}
    names = sorted({name for metrics in told for name in metrics} | judged)
    parts = []
    for name in names[:_MAX_METRICS]:
        curve = [_drawable(told[index].get(name)) for index in kept]
        parts.append(_small(name, steps, curve, domain, points=_heldout(stage, name), from_zero=False))
    return "".join(parts)


def _small(
    title: str,
    steps: list[float],
    curve: Curve,
    domain: tuple[float, float],
    *,
    points: Points | None = None,
    axis: Callable[[float], str] | None = None,
    from_zero: bool = True,
) -> str:
    chart = charts.line_chart(
        steps, [("second", curve)], domain=domain, points=points or [], label=title, as_text=axis, height=72,
        num_ticks=2, has_x_labels=False, from_zero=from_zero,
    )  # fmt: skip
    return f'<div><h4 title="{escape(title)}">{escape(title)}</h4>{chart}</div>' if chart else ""


def _drawable(value: object) -> float | None:
    """Return a value that arithmetic cannot push past the largest float, or None: a gap."""
    known = finite(value)
    return known if known is not None and abs(known) < _LARGEST else None


def _last(stage: Stage, name: str) -> float | None:
    return next((value for event in reversed(stage.progress) if (value := finite(event.get(name))) is not None), None)


def _readout(steps: list[float], curves: dict[str, Curve], domain: tuple[float, float]) -> dict[str, list[Any]]:
    """Return what the pointer reads at each step: places in percent, and texts."""
    low, high = domain
    places = [round((step - low) / (high - low) * 100, 2) if high > low else 50 for step in steps]
    texts = [_point(step, {name: curve[index] for name, curve in curves.items()}) for index, step in enumerate(steps)]
    return {"x": places, "text": texts}


def _point(step: float, values: dict[str, float | None]) -> str:
    said = [figure.say(value) for name, figure in _FIGURES.items() if (value := values[name]) is not None]
    return "  ".join([f"step {step:g}", *said])
