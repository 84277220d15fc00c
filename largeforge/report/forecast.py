"""The report's section on what the plan forecast, beside what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from largeforge.console.text import duration, finite
from largeforge.report.html import section, table
from largeforge.report.read import mapping, sequence

if TYPE_CHECKING:
    from largeforge.report.facts import Facts, Stage
    from largeforge.report.read import Mapping

_NO_WORD = "–"


def forecast(facts: Facts, plan: Mapping) -> str:
    """Return memory and time of each training, estimated and measured."""
    forecasts = mapping(plan.get("forecasts"))
    rows = [
        _row(stage, mapping(forecasts[stage.name]))
        for stage in facts.stages
        if stage.name in forecasts and stage.kind == "train"
    ]
    columns = ["training", "memory estimated", "memory measured", "time estimated", "time measured"]
    note = "Peak of the GPU, or of the process on a CPU; measured memory is what was reserved."
    return section("forecast", "Plan and reality", table(columns, rows) if rows else "", note=note)


def _row(stage: Stage, planned: Mapping) -> list[Any]:
    estimated, measured = finite(planned.get("peak_gib")), finite(stage.metrics.get("peak_memory_gib"))
    hours = [finite(value) for value in sequence(planned.get("hours"))]
    return [
        stage.name,
        _NO_WORD if estimated is None else f"{estimated:.2f} GiB",
        _NO_WORD if measured is None else f"{measured:.2f} GiB",
        f"{_clock(hours[0])} to {_clock(hours[2])}" if len(hours) == 3 else _NO_WORD,
        _clock(stage.seconds / 3600 if stage.seconds is not None else None),
    ]


def _clock(hours: float | None) -> str:
    return _NO_WORD if hours is None else duration(hours * 3600)
