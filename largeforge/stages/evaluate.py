"""Judge a trained model on held-out rows, beside the model that it started from."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.artifacts import write_json, write_text
from largeforge.data.rows import read_rows
from largeforge.errors import StageError
from largeforge.recipe import extensions, further_models
from largeforge.recipe.base import Strict
from largeforge.recipe.evaluation import BASELINE
from largeforge.recipe.made_for import SEQ_CLS
from largeforge.recipe.schema import Adapter, Evaluator, Registry
from largeforge.stages.context import Result
from largeforge.stages.loading import Base, load_adapter, load_model, load_tokenizer, task_type
from largeforge.stages.models import ResolvedModel, checked_folder
from largeforge.stages.subject import LoadedSubject
from largeforge.training.arguments import compute_precision
from largeforge.training.other_models import OtherModels

if TYPE_CHECKING:
    from largeforge.stages.context import Context

_KEPT_SAMPLES = 50
"""Answers kept for people to read, wrong ones first."""


class Config(Strict):
    """What to compute."""

    reference: str
    registry: Registry
    evaluation: dict[str, Evaluator]
    adapter: Adapter
    """What was trained; where it quantized the base, the base is judged as it was trained on."""
    device: str
    chat_template: str = ""
    """Text of the chat template that the recipe gives; the trained model has it with its files."""


def run(config: Config, context: Context) -> Result:
    """Write `evaluation.json` (metrics of model and base) and `samples.jsonl`."""
    rows = read_rows(context.inputs["data"] / "heldout.jsonl")
    if not rows:
        raise StageError("there are no held-out rows to judge with; give dataset.heldout_path or heldout_fraction")
    base_source = Base(config.reference, config.registry).resolve(context)
    trained_source = ResolvedModel(str(checked_folder(context.inputs["model"])), context.stage)
    context.events.emit("note", text="loading libraries and models")
    task = task_type(trained_source)
    named = further_models.of_settings("evaluation", config.evaluation)
    others = OtherModels(context, config.registry, named, device=config.device, precision="auto")
    adapter = extensions.load("adapter", config.adapter.name)
    quantization = adapter.quantization(config.adapter, precision=compute_precision("auto", config.device))
    model = load_model(base_source, device=config.device, task_type=task, quantization=quantization)
    base = _subject(base_source, model, rows, context, others, chat_template=config.chat_template)
    base_metrics = _measure(config, base, "base")
    if trained_source.is_adapter:
        model = load_adapter(model, Path(trained_source.location))
    else:
        del base, model  # one after the other: two of the largest models that train here do not fit at once
        _free(config.device)
        model = load_model(trained_source, device=config.device, task_type=task)
    subject = _subject(trained_source, model, rows, context, others)
    metrics = _measure(config, subject, "model")
    _report(context, len(rows), metrics, base_metrics)
    differences = {f"{BASELINE}{name}": value - base_metrics[name] for name, value in metrics.items()}
    everything = {**metrics, **{f"base.{name}": value for name, value in base_metrics.items()}, **differences}
    samples = sorted(subject.samples, key=lambda sample: bool(sample["correct"]))[:_KEPT_SAMPLES]
    lines = "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples)
    write_text(context.out / "samples.jsonl", lines)
    write_json(context.out / "evaluation.json", {"rows": len(rows), "metrics": everything})
    return Result(metrics=everything, info={"samples": samples[:8]})


def _free(device: str) -> None:
    """Give the memory of models that nobody holds any more back to the GPU."""
    gc.collect()
    if device == "cuda":
        import torch

        torch.cuda.empty_cache()


def _subject(
    source: ResolvedModel,
    model: Any,
    rows: list[dict[str, Any]],
    context: Context,
    others: OtherModels,
    *,
    chat_template: str = "",
) -> LoadedSubject:
    tokenizer = load_tokenizer(source, renders="text" not in rows[0], chat_template=chat_template)
    scores = task_type(source) == SEQ_CLS
    if scores:  # it looks for the last token that is no padding
        model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    return LoadedSubject(model, tokenizer, rows, context, others=others, has_reward_head=scores)


def _measure(config: Config, subject: LoadedSubject, who: str) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for name, evaluator in config.evaluation.items():
        subject.label = f"{name} of {who}"
        metrics |= extensions.load("evaluation", evaluator.name).run(evaluator, subject)
    return metrics


def _report(context: Context, num_rows: int, metrics: dict[str, float], base: dict[str, float]) -> None:
    rows = [[name, base[name], value, value - base[name]] for name, value in metrics.items()]
    columns = ["metric", "base", "model", "difference"]
    context.events.emit("table", title=f"{context.stage}: {num_rows} held-out rows", columns=columns, rows=rows)
