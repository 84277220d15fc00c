"""Judge a trained model on held-out rows, beside the model that it started from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from largeforge.artifacts import write_json, write_text
from largeforge.data.rows import read_rows
from largeforge.errors import StageError
from largeforge.estimate.inference import LOGITS_BYTES, PIECE_TOKENS
from largeforge.recipe import extensions
from largeforge.recipe.base import Strict
from largeforge.recipe.evaluation import BASELINE
from largeforge.recipe.schema import Evaluator, Registry
from largeforge.stages.context import Result
from largeforge.stages.loading import Base, load_adapter, load_model, load_tokenizer, render
from largeforge.stages.models import ResolvedModel, checked_folder

if TYPE_CHECKING:
    from largeforge.stages.context import Context

_KEPT_SAMPLES = 50
"""Answers kept for people to read, wrong ones first."""


class Config(Strict):
    """What to compute."""

    reference: str
    registry: Registry
    evaluation: dict[str, Evaluator]
    device: str


def run(config: Config, context: Context) -> Result:
    """Write `evaluation.json` (metrics of model and base) and `samples.jsonl`."""
    rows = read_rows(context.inputs["data"] / "heldout.jsonl")
    if not rows:
        raise StageError("there are no held-out rows to judge with; give dataset.heldout_path or heldout_fraction")
    base_source = Base(config.reference, config.registry).resolve(context)
    folder = checked_folder(context.inputs["model"])
    context.events.emit("note", text="loading libraries and models")
    base = LoadedSubject(load_model(base_source, device=config.device), load_tokenizer(base_source), rows, context)
    base_metrics = _measure(config, base, "base")
    trained_source = ResolvedModel(str(folder), context.stage)
    if trained_source.is_adapter:
        model = load_adapter(base.model, folder)
    else:
        model = load_model(trained_source, device=config.device)
    subject = LoadedSubject(model, load_tokenizer(trained_source), rows, context)
    metrics = _measure(config, subject, "model")
    _report(context, len(rows), metrics, base_metrics)
    differences = {f"{BASELINE}{name}": value - base_metrics[name] for name, value in metrics.items()}
    everything = {**metrics, **{f"base.{name}": value for name, value in base_metrics.items()}, **differences}
    samples = sorted(subject.samples, key=lambda sample: bool(sample["correct"]))[:_KEPT_SAMPLES]
    lines = "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples)
    write_text(context.out / "samples.jsonl", lines)
    write_json(context.out / "evaluation.json", {"rows": len(rows), "metrics": everything})
    return Result(metrics=everything, info={"samples": samples[:8]})


class LoadedSubject:
    """A loaded model with its held-out rows; see `recipe.evaluation.Subject`."""

    def __init__(self, model: Any, tokenizer: Any, rows: list[dict[str, Any]], context: Context):
        self.model, self.tokenizer, self.rows, self.context = model.eval(), tokenizer, rows, context
        self.samples: list[dict[str, Any]] = []
        self.label = ""

    def render(self, messages: Sequence[dict[str, Any]], *, generation_prompt: bool) -> list[int]:
        """Return the token ids of a conversation under the model's chat template."""
        return render(self.tokenizer, messages, generation_prompt=generation_prompt)

    def generate(self, prompts: Sequence[Sequence[dict[str, Any]]], max_new_tokens: int) -> list[str]:
        """Return the greedy answers to a batch of conversations."""
        import torch

        encoded = [self.render(prompt, generation_prompt=True) for prompt in prompts]
        tokens, mask = self._padded(encoded, left=True)
        with torch.inference_mode():
            output = self.model.generate(
                input_ids=tokens, attention_mask=mask, max_new_tokens=max_new_tokens, do_sample=False,
                pad_token_id=self.tokenizer.pad_token_id,
            )  # fmt: skip
        answers: list[str] = self.tokenizer.batch_decode(output[:, tokens.shape[1] :], skip_special_tokens=True)
        return answers

    def log_probabilities(self, batch: Sequence[tuple[list[int], int]]) -> list[float]:
        """Return, for each `(token ids, length of the prompt)`, the summed log-probability of the rest, in nats.

        Rows are passed on in as many parts as the memory of their logits demands.
        """
        vocabulary = self.model.get_input_embeddings().weight.shape[0]
        tokens = int(LOGITS_BYTES // (vocabulary * self.model.dtype.itemsize))
        found: list[float] = []
        for part in _parts(batch, max_tokens=tokens):
            found += self._log_probabilities(part)
        return found

    def _log_probabilities(self, batch: Sequence[tuple[list[int], int]]) -> list[float]:
        import torch

        tokens, mask = self._padded([ids for ids, _ in batch], left=False)
        with torch.inference_mode():
            logits = self.model(input_ids=tokens, attention_mask=mask).logits
            return [
                _summed(logits[row, skip - 1 : len(ids) - 1], tokens[row, skip : len(ids)])
                for row, (ids, skip) in enumerate(batch)
            ]

    def sample(self, row: dict[str, Any], answer: str, *, correct: bool) -> None:
        """Keep an answer for the page of examples."""
        prompt, expected = row["messages"][-2]["content"], row["messages"][-1]["content"]
        self.samples.append({"prompt": prompt, "expected": expected, "answer": answer, "correct": correct})

    def progress(self, done: int, total: int) -> None:
        """Tell how far the evaluator is, in rows."""
        self.context.events.emit("progress", step=done, total=total, unit=f"rows, {self.label}")

    def _padded(self, encoded: list[list[int]], *, left: bool) -> tuple[Any, Any]:
        import torch

        width = max(len(ids) for ids in encoded)
        tokens = torch.full((len(encoded), width), int(self.tokenizer.pad_token_id))
        mask = torch.zeros((len(encoded), width), dtype=torch.long)
        for index, ids in enumerate(encoded):
            place = slice(width - len(ids), width) if left else slice(0, len(ids))
            tokens[index, place] = torch.tensor(ids, dtype=torch.long)
            mask[index, place] = 1
        return tokens.to(self.model.device), mask.to(self.model.device)


def _parts(batch: Sequence[tuple[list[int], int]], *, max_tokens: int) -> Iterator[Sequence[tuple[list[int], int]]]:
    """Yield the rows in order, as many at a time as have that many tokens with their padding, at least one."""
    start, width = 0, 0
    for place, (ids, _) in enumerate(batch):
        width = max(width, len(ids))
        if place > start and width * (place - start + 1) > max_tokens:
            yield batch[start:place]
            start, width = place, len(ids)
    yield batch[start:]


def _summed(logits: Any, tokens: Any) -> float:
    """Return the summed log-probability of tokens, in fp32 a piece at a time."""
    total = 0.0
    for values, chosen in zip(logits.split(PIECE_TOKENS), tokens.split(PIECE_TOKENS), strict=True):
        piece = values.float()
        total += float((piece.gather(-1, chosen.unsqueeze(-1)).squeeze(-1) - piece.logsumexp(-1)).sum())
    return total


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
