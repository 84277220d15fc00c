"""The report's section on how models were judged: gates, tables, and where a model became worse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from largeforge.console import gates
from largeforge.report.html import details, esc, esc_lines, event_table, mark, section, value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from largeforge.report.facts import Facts, Stage


def evaluation(facts: Facts) -> str:
    """Return gates, tables and regressions of the stages that judge a model."""
    judging = [stage for stage in facts.stages if stage.gates or (stage.kind in ("evaluate", "route") and stage.tables)]
    cards = "".join(_judgement(stage) for stage in judging)
    fallen = "".join(_regressions(stage) for stage in judging)
    return section("evaluation", "Evaluation", f'<div class="flow">{cards}</div>{fallen}' if cards else "")


def _judgement(stage: Stage) -> str:
    rows = "".join(_gate(gate) for gate in stage.gates)
    listed = f'<ul class="gates">{rows}</ul>' if rows else ""
    return f'<div class="card"><h3>{esc(stage.name)}</h3>{listed}{"".join(map(event_table, stage.tables))}</div>'


def _gate(gate: Mapping[str, Any]) -> str:
    condition, told = esc(gate.get("condition") or ""), gates.around(gate)
    known = f"<b>{value(gate.get('value'))}</b> " if gate.get("value") is not None else ""
    around = f' <span class="muted">({esc(told)})</span>' if told else ""
    return (
        f'<li><span class="metric">{esc(gate.get("metric") or "")}</span>'
        f"{mark(gate.get('passed') is True, gates.outcome(gate))}"
        f'<span>{known}<span class="muted">needs {condition}</span>{around}</span></li>'
    )


def _regressions(stage: Stage) -> str:
    """Return the answers that became worse, one list for each baseline."""
    by_baseline: dict[str, list[Mapping[str, Any]]] = {}
    for regression in stage.regressions:
        by_baseline.setdefault(str(regression.get("baseline") or ""), []).append(regression)
    return "".join(
        details(
            f"{esc(stage.name)}: answers that are worse than those of {esc(baseline)} "
            f'<span class="muted">{len(found)} of the worst</span>',
            f'<ol class="answers">{"".join(map(_regression, found))}</ol>',
        )
        for baseline, found in by_baseline.items()
    )


def _regression(found: Mapping[str, Any]) -> str:
    metric, baseline = esc(found.get("metric") or ""), esc(found.get("baseline") or "")
    expected = f'<p class="reference">expected: {esc_lines(found["expected"])}</p>' if found.get("expected") else ""
    return (
        f'<li class="card"><p class="prompt">{esc_lines(found.get("prompt") or "")}</p>'
        f'<p class="answer">{esc_lines(found.get("answer") or "")}</p>'
        f'<p class="reference">{baseline}: {esc_lines(found.get("before") or "")}</p>{expected}'
        f'<p class="chips"><span>{metric} {value(found.get("score"))}, before {value(found.get("score_before"))}</span>'
        f"<span>{esc(found.get('row') or '')}</span></p></li>"
    )
