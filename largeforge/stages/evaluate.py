"""Judge a trained model on held-out rows, beside the model that it started from and other baselines."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from largeforge.data.rows import read_rows
from largeforge.errors import StageError
from largeforge.judging.comparison import Comparison
from largeforge.recipe.base import Strict
from largeforge.recipe.schema import Adapter, Evaluator, Judging, Registry, Serving
from largeforge.stages import findings
from largeforge.stages.context import Result
from largeforge.stages.measuring import MODEL, Measuring

if TYPE_CHECKING:
    from largeforge.stages.context import Context


class Config(Strict):
    """What to compute."""

    reference: str
    registry: Registry
    evaluation: dict[str, Evaluator]
    judging: Judging
    adapter: Adapter
    """What was trained; where it quantized the base, the base is judged as it was trained on."""
    device: str
    serving: Serving = Serving()
    """How vLLM is started, where it generates the answers."""
    own_rows: dict[str, str] = {}
    """What identifies the content of files that evaluators bring, by path: other content is another evaluation."""
    written: dict[str, str] = {}
    """sha256 of the files of answers, by baseline: other content is another evaluation."""
    chat_template: str = ""
    """Text of the chat template that the recipe gives; the trained model has it with its files."""


def run(config: Config, context: Context) -> Result:
    """Write `evaluation.json` (metrics and intervals), `scores.json` (row by row) and `answers.jsonl`.

    What judges were asked and replied stands in `judged-<evaluator>.jsonl`.
    """
    rows = read_rows(context.inputs["data"] / "heldout.jsonl")
    if not rows:
        raise StageError("there are no held-out rows to judge with; give dataset.heldout_path or heldout_fraction")
    context.events.emit("note", text="loading libraries and models")
    measuring = Measuring(config, context, rows)
    found, samples = measuring.run()
    baselines = {who: metrics for who, metrics in found.items() if who != MODEL}
    comparison = Comparison(found[MODEL], baselines, measuring.pairs, config.judging.confidence)
    intervals = comparison.intervals()
    metrics = {name: interval.value for name, interval in intervals.items() if math.isfinite(interval.value)}
    findings.tell(context, comparison, intervals, rows)
    by_file = {"": rows, **measuring.rows_by_file}
    worst = findings.worst(by_file, samples, most=config.judging.worst)
    findings.show(context, worst)
    findings.write(context, by_file, {**found, **measuring.found_in_pairs}, samples)
    costs = findings.costs(context)
    findings.summarize(
        context, len(rows), comparison, intervals, metrics=metrics, worst=worst, absent=measuring.absent, costs=costs
    )
    return Result(metrics=metrics, info={"absent": measuring.absent} if measuring.absent else {})
