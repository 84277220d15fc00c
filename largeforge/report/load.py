"""The report's section on load tests: latencies and goodput over the rate at which requests arrived."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from largeforge.console.figures import percent
from largeforge.console.text import clean, finite, number
from largeforge.report import charts
from largeforge.report.html import esc, section, table
from largeforge.report.read import mapping, sequence

if TYPE_CHECKING:
    from collections.abc import Callable

    from largeforge.report.facts import Facts, Stage

_LATENCIES = {"ttft": "Time to first token", "inter_token": "Between two tokens", "e2e": "Whole answer"}
_PERCENTILES = {50: "raw", 95: "smooth", 99: "heldout"}
"""What is drawn of a latency, with the class of its line."""
_ALL_PERCENTILES = (50, 90, 95, 99)
_SUMS = {
    "sent_per_s": "sent/s", "sent": "requests", "completed": "answered", "failed": "failed",
    "prompt_tokens_per_s": "prompt tokens/s", "output_tokens_per_s": "output tokens/s", "goodput_per_s": "goodput/s",
    "goodput_share": "goodput",
}  # fmt: skip
_NO_WORD = "–"
_COUNTS = ("sent", "completed", "failed")
_NOTE = "Requests arrive whether or not earlier ones are answered. Latencies are of those answered, goodput is of all."


def load(facts: Facts) -> str:
    """Return a card for each load test."""
    cards = "".join(_card(stage, steps) for stage in facts.stages for steps in _tests(stage))
    return section("load", "Load test", f'<div class="flow">{cards}</div>' if cards else "", note=_NOTE)


def _tests(stage: Stage) -> list[list[dict[str, Any]]]:
    """Return the steps of each load test that a stage tells of, those without a rate left out."""
    tests = [[mapping(step) for step in sequence(event["load_test"])] for event in stage.load_tests]
    known = [[step for step in steps if finite(step.get("requests_per_second")) is not None] for steps in tests]
    return [steps for steps in known if steps]


def _card(stage: Stage, steps: list[dict[str, Any]]) -> str:
    rates = [_rate(step) for step in steps]
    sums = [[rate, *(_sum(step, name) for name in _SUMS)] for rate, step in zip(rates, steps, strict=True)]
    latencies = [
        [rate, title, *(_sum(step, f"{name}_p{at}_ms") for at in _ALL_PERCENTILES)]
        for rate, step in zip(rates, steps, strict=True)
        for name, title in _LATENCIES.items()
    ]
    drawn = "".join(
        _chart(title, rates, [(style, _values(steps, f"{name}_p{at}_ms")) for at, style in _PERCENTILES.items()], _ms)
        for name, title in _LATENCIES.items()
    )
    drawn += _chart("Goodput", rates, [("smooth", _values(steps, "goodput_share"))], percent)
    legend = "".join(f'<li><i class="{style}"></i>p{at}</li>' for at, style in _PERCENTILES.items())
    return (
        f'<div class="card"><h3>{esc(stage.name)}</h3>'
        f"{table(['requests/s', *_SUMS.values()], sums)}"
        f"{table(['requests/s', 'latency in ms', *(f'p{at}' for at in _ALL_PERCENTILES)], latencies)}"
        f'<div class="cards">{drawn}</div><ul class="legend">{legend}</ul></div>'
    )


def _chart(
    title: str, rates: list[float], lines: list[tuple[str, list[float | None]]], as_text: Callable[[float], str]
) -> str:
    """Return a chart over the rates, with its last values for those who do not see it."""
    last = ", ".join(as_text(known[-1]) for _, values in lines if (known := [v for v in values if v is not None]))
    label = f"{title} over requests per second, at the highest rate {clean(last)}"
    drawn = charts.line_chart(rates, lines, label=label, height=150, from_zero=True, as_text=as_text)
    return f"<div><h4>{escape(title)} over requests/s</h4>{drawn}</div>" if drawn else ""


def _sum(step: dict[str, Any], name: str) -> float | int | str:
    known = finite(step.get(name))
    if known is None:
        return _NO_WORD
    return round(known) if name in _COUNTS else percent(known) if name == "goodput_share" else known


def _rate(step: dict[str, Any]) -> float:
    return finite(step["requests_per_second"]) or 0.0


def _values(steps: list[dict[str, Any]], name: str) -> list[float | None]:
    return [finite(step.get(name)) for step in steps]


def _ms(value: float) -> str:
    return f"{number(value)} ms"
