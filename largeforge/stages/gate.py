"""Refuse to go on with a model that does not meet the recipe's gates, or of which too little is known."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Literal

from largeforge.artifacts import write_json
from largeforge.judging.verdict import Verdict, decide, require
from largeforge.recipe.base import Strict
from largeforge.recipe.evaluation import parse_condition, split
from largeforge.stages.context import Result

if TYPE_CHECKING:
    from largeforge.stages.context import Context


class Config(Strict):
    """The gates of one job."""

    gates: dict[str, str]
    by: Literal["interval", "value"] = "interval"
    """What must meet a condition: the whole interval of the metric, or only its value."""


def run(config: Config, context: Context) -> Result:
    """Compare each metric with its condition.

    Raises GateError that lists every gate that refused, or could not be decided.
    """
    evaluation = json.loads((context.inputs["evaluation"] / "evaluation.json").read_text(encoding="utf-8"))
    verdicts = [_decide(metric, text, evaluation, config.by) for metric, text in config.gates.items()]
    for verdict in verdicts:
        context.events.emit("gate", **verdict.as_dict())
    require(verdicts, subject="the model", more="more held-out rows", key="judging.gates")
    gates = [verdict.as_dict() for verdict in verdicts]
    write_json(context.out / "evaluation.json", {**evaluation, "gates": gates})
    return Result(info={"gates": gates})


def _decide(metric: str, text: str, evaluation: dict[str, Any], by: str) -> Verdict:
    condition, baseline = parse_condition(text), split(metric)[0]
    if baseline in evaluation.get("absent", []):
        note = f"there is no {baseline} yet to compare with"
        return Verdict(metric, str(condition), None, "pass", note=note)
    value, interval = evaluation["metrics"].get(metric), evaluation.get("intervals", {}).get(metric)
    if interval is not None:
        low, high = (interval[bound] for bound in ("low", "high"))
        interval = {**interval, "low": -math.inf if low is None else low, "high": math.inf if high is None else high}
    return decide(metric, condition, value, interval, by_interval=by == "interval")
