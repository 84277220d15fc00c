"""A comparison as tables for a terminal, and as plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from largeforge.compare.differences import shown
from largeforge.errors import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from largeforge.compare.differences import Comparison
    from largeforge.compare.results import Metric, StagePair
    from largeforge.recorded import Recorded


def render(found: Comparison) -> RenderableType:
    """Return the verdict, what differs, and the results side by side."""
    parts: list[RenderableType] = [_head(found), Text(found.verdict, style="bold")]
    if found.differences:
        parts += [Text(""), _differences(found)]
    if found.stages:
        parts += [Text(""), results(found.stages), Text(""), _durations(found.stages)]
    return Group(*parts)


def as_dict(found: Comparison) -> dict[str, Any]:
    """Return the comparison as plain data: the same content as the tables."""
    return {
        "same": found.same,
        "same_results": found.same_results if found.stages else None,
        "verdict": found.verdict,
        "a": _side(found.a),
        "b": _side(found.b),
        "differences": [
            {"kind": each.kind, "key": each.key, "a": each.a, "b": each.b, "why": each.why, "decides": each.decides}
            for each in found.differences
        ],
        "stages": [
            {
                "stage": stage.name,
                "weights_equal": stage.weights,
                "metrics": {
                    metric.name: {"a": metric.a, "b": metric.b, "delta": metric.delta, "percent": metric.percent}
                    for metric in stage.metrics
                },
                "seconds": {"a": stage.seconds[0], "b": stage.seconds[1]},
            }
            for stage in found.stages
        ],
    }


def results(stages: Sequence[StagePair], a: str = "A", b: str = "B") -> Table:
    """Return weights and metrics of the stages, side by side; `a` and `b` head the columns."""
    table = _table("stage", "result", a, b, "difference")
    for stage in stages:
        name = stage.name
        if stage.weights is not None:
            word = Text("equal bytes", style="green") if stage.weights else Text("differ", style="yellow")
            table.add_row(name, "weights", "", "", word)
            name = ""
        for metric in (metric for metric in stage.metrics if not metric.same):
            table.add_row(name, metric.name, number(metric.a), number(metric.b), _delta(metric))
            name = ""
        equal = [metric.name for metric in stage.metrics if metric.same]
        if equal:
            table.add_row(name, listed(equal, 4), "", "", Text("equal", style="green"))
    return table


def number(value: float | None) -> str:
    """Return a metric as a person reads it."""
    return "" if value is None else f"{value:.6g}"


def _head(found: Comparison) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for letter, each in (("A", found.a), ("B", found.b)):
        table.add_row(Text(letter, style="bold"), Text(each.label), Text(each.digest[:12], style="dim"))
    return table


def _differences(found: Comparison) -> RenderableType:
    """Return what differs, by kind; what cannot change a result is dimmed."""
    parts: list[RenderableType] = []
    before = ""
    for each in found.differences:
        if each.kind != before:
            parts.append(Text(each.kind, style="bold" if each.decides else "dim"))
        line = Text(f"{each.shown_key}  {shown(each.a)} → {shown(each.b)}")
        why = Text(each.why, style="dim")
        parts += [Padding(line, (0, 0, 0, 2)), *([Padding(why, (0, 0, 0, 4))] if each.decides else [])]
        before = each.kind
    return Group(*parts)


def _durations(stages: Sequence[StagePair]) -> Text:
    known = [stage for stage in stages if all(stage.seconds)]
    told = ", ".join(f"{stage.name} {stage.seconds[0]:.1f} → {stage.seconds[1]:.1f} s" for stage in known)
    return Text(f"took: {told}" if told else "", style="dim")


def _delta(metric: Metric) -> Text:
    if metric.delta is None:
        return Text("only one side has it", style="yellow")
    percent = f" ({metric.percent:+.3g} %)" if metric.percent is not None else ""
    return Text(f"{metric.delta:+.3g}{percent}", style="yellow")


def _side(recorded: Recorded) -> dict[str, Any]:
    return {"label": recorded.label, "digest": recorded.digest}


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
