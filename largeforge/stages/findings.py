"""Tell and write down what an evaluation found."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from largeforge.artifacts import write_json, write_text
from largeforge.judging.comparison import Comparison, regressions, slices_of
from largeforge.recipe.evaluation import asked
from largeforge.stages.measuring import MODEL

if TYPE_CHECKING:
    from largeforge.judging.intervals import Interval
    from largeforge.judging.series import Series
    from largeforge.stages.context import Context

_SHOWN_WORST = 8
_MAX_SLICES = 40


def tell(
    context: Context, comparison: Comparison, intervals: Mapping[str, Interval], rows: list[dict[str, Any]]
) -> None:
    """Emit one table for each baseline, and one of slices where the rows can be divided."""
    share = f"{100 * comparison.confidence:g} %"
    if not comparison.baselines:
        table = [[name, one.value, _range(one.low, one.high)] for name, one in intervals.items()]
        title = f"{context.stage}: {len(rows)} held-out rows"
        context.events.emit("table", title=title, columns=["metric", MODEL, share], rows=table)
    for who in comparison.baselines:
        table = []
        for name in comparison.shared(who):
            own, other, difference = (intervals[key] for key in (name, f"{who}.{name}", f"vs_{who}.{name}"))
            between = _range(difference.low, difference.high)
            table.append([name, other.value, own.value, difference.value, between])
        for name in comparison.pairs.get(who, {}):
            both = intervals[f"vs_{who}.{name}"]
            table.append([f"vs_{who}.{name}", "", both.value, "", _range(both.low, both.high)])
        for name in comparison.model if who == next(iter(comparison.baselines)) else ():
            if not any(name in comparison.shared(one) for one in comparison.baselines):
                table.append([name, "", intervals[name].value, "", _range(intervals[name].low, intervals[name].high)])
        title = f"{context.stage}: {len(rows)} held-out rows"
        columns = ["metric", who, MODEL, "difference", f"{share} of it"]
        context.events.emit("table", title=title, columns=columns, rows=table)
    slices = slices_of(rows)
    if 1 < len(slices) <= _MAX_SLICES:
        title = f"{context.stage}: the model by slices of the rows"
        columns = ["slice", "rows", *comparison.of_rows]
        context.events.emit("table", title=title, columns=columns, rows=comparison.sliced(slices))


def _range(low: float, high: float) -> str:
    return f"{low:.4g} to {high:.4g}" if math.isfinite(low) and math.isfinite(high) else "unknown"


def worst(
    rows: Mapping[str, list[dict[str, Any]]], samples: Mapping[str, list[dict[str, Any]]], *, most: int
) -> list[dict[str, Any]]:
    """Return the answers that became worst beside each baseline, with both answers; `rows` are by their file."""
    found = []
    own = {(sample["metric"], sample["row"]): sample for sample in samples.get(MODEL, [])}
    for who, theirs in samples.items():
        other = {(sample["metric"], sample["row"]): sample for sample in theirs}
        for metric in dict.fromkeys(metric for metric, _ in own if who != MODEL):
            mine = {row: sample["score"] for (name, row), sample in own.items() if name == metric}
            base = {row: sample["score"] for (name, row), sample in other.items() if name == metric}
            for row in regressions(mine, base, most):
                one, before = own[metric, row], other[metric, row]
                content = rows[one.get("over", "")][row]
                found.append({
                    "metric": metric, "baseline": who, "row": str(content.get("source", row + 1)),
                    "prompt": str(asked(content)[-1]["content"]), "expected": one["expected"],
                    "answer": one["answer"], "before": before["answer"],
                    "score": one["score"], "score_before": before["score"],
                })  # fmt: skip
    return found


def show(context: Context, worst: Sequence[dict[str, Any]]) -> None:
    """Emit the first of the answers that became worst."""
    for regression in worst[:_SHOWN_WORST]:
        context.events.emit("regression", **regression)


def costs(context: Context) -> dict[str, dict[str, Any]]:
    """Tell what judges have cost, by evaluator, and keep what they were asked and replied with the findings."""
    found = {}
    for path in sorted(context.work.glob("evaluators/*/spent.json")):
        found[path.parent.name] = json.loads(path.read_text(encoding="utf-8"))
        shutil.copyfile(path.with_name("judged.jsonl"), context.out / f"judged-{path.parent.name}.jsonl")
    if found:
        columns = ["evaluator", "requests", "reused", "prompt_tokens", "answer_tokens", "usd"]
        table = [[name, *(spent[column] for column in columns[1:])] for name, spent in found.items()]
        context.events.emit("table", title=f"{context.stage}: what judges cost", columns=columns, rows=table)
    return found


def summarize(
    context: Context,
    num_rows: int,
    comparison: Comparison,
    intervals: Mapping[str, Interval],
    *,
    metrics: Mapping[str, float],
    worst: Sequence[dict[str, Any]],
    absent: Sequence[str],
    costs: Mapping[str, Any],
) -> None:
    """Write `evaluation.json`, which gates and the registry read."""
    report = {
        "rows": num_rows, "metrics": dict(metrics), "confidence": comparison.confidence, "absent": list(absent),
        "intervals": {name: interval.as_dict() for name, interval in intervals.items()}, "regressions": list(worst),
        "costs": dict(costs),
    }  # fmt: skip
    write_json(context.out / "evaluation.json", _finite(report))


def write(
    context: Context,
    rows: Mapping[str, list[dict[str, Any]]],
    found: Mapping[str, Mapping[str, Series]],
    samples: Mapping[str, list[dict[str, Any]]],
) -> None:
    """Write all scores, and a line for each row that was answered: prompt, answers and scores of all contenders.

    `rows` are by the file that an evaluator brought, "" for the held-out ones.
    """
    plain = {who: {name: one.as_dict() for name, one in metrics.items()} for who, metrics in found.items()}
    write_json(context.out / "scores.json", plain)
    lines: dict[tuple[str, int], dict[str, Any]] = {}
    for who, kept in samples.items():
        for sample in kept:
            place = (sample.get("over", ""), sample["row"])
            row = rows[place[0]][place[1]]
            new = {"source": row.get("source", ""), "prompt": asked(row), "expected": "", "answers": {}, "scores": {}}
            line = lines.setdefault(place, new)
            line["expected"] = sample["expected"]
            line["answers"][who] = sample["answer"]
            line["scores"].setdefault(who, {})[sample["metric"]] = sample["score"]
    text = "".join(json.dumps(lines[row], ensure_ascii=False) + "\n" for row in sorted(lines))
    write_text(context.out / "answers.jsonl", text)


def _finite(value: Any) -> Any:
    """Return plain data with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
