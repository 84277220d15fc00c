"""Refuse to go on with a model that does not meet the recipe's gates."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from largeforge.artifacts import write_json
from largeforge.errors import GateError
from largeforge.recipe.base import Strict
from largeforge.recipe.evaluation import parse_condition
from largeforge.stages.context import Result

if TYPE_CHECKING:
    from largeforge.stages.context import Context


class Config(Strict):
    """The gates of one job."""

    gates: dict[str, str]


def run(config: Config, context: Context) -> Result:
    """Compare each metric with its condition.

    Raises GateError that lists every gate that refused.
    """
    evaluation = json.loads((context.inputs["evaluation"] / "evaluation.json").read_text(encoding="utf-8"))
    gates = []
    for metric, text in config.gates.items():
        condition, value = parse_condition(text), float(evaluation["metrics"].get(metric, float("nan")))
        gates.append({"metric": metric, "condition": str(condition), "value": value, "passed": condition.holds(value)})
        context.events.emit("gate", **gates[-1])
    refused = [
        f"{gate['metric']} is {gate['value']:.4g}, must be {gate['condition']}" for gate in gates if not gate["passed"]
    ]
    if refused:
        raise GateError(f"gate refused the model: {'; '.join(refused)}")
    write_json(context.out / "evaluation.json", {**evaluation, "gates": gates})
    return Result(info={"gates": gates})
