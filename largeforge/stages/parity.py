"""Refuse a model that is not served as it was trained: other tokens, other answers, other likelihoods."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.artifacts import write_json
from largeforge.data.rows import read_rows
from largeforge.errors import GateError, StageError
from largeforge.judging import parity
from largeforge.judging.verdict import decide
from largeforge.recipe import extensions
from largeforge.recipe.base import Strict
from largeforge.recipe.evaluation import asked, parse_condition
from largeforge.recipe.schema import Adapter, Parity, Registry, Serving
from largeforge.serving import server
from largeforge.stages import contenders
from largeforge.stages.contenders import Contender
from largeforge.stages.context import Result
from largeforge.stages.loading import Base, task_type
from largeforge.stages.models import ResolvedModel, checked_folder
from largeforge.stages.subject import Subject
from largeforge.training.arguments import compute_precision
from largeforge.training.other_models import OtherModels

if TYPE_CHECKING:
    from largeforge.stages.context import Context

FINAL, TRAINED = "model", "trained"
_TIMEOUT_S = 600.0


class Config(Strict):
    """What is compared."""

    reference: str
    registry: Registry
    adapter: Adapter
    """What was trained; where it quantized the base, the trained model answers on that."""
    parity: Parity
    same_answers: str
    """Condition on the share of prompts with the same greedy answer."""
    logprob_difference: str
    """Condition on the mean difference of log-probabilities in nats per token."""
    device: str
    serving: Serving
    chat_template: str = ""


def run(config: Config, context: Context) -> Result:
    """Write `parity.json`.

    Raises GateError that says in what the served model differs, with an example of each.
    """
    rows = _sampled(context, config.parity.prompts)
    comparison = _Comparison(config, context, rows)
    trained, final = comparison.trained, comparison.final
    folders = [Path(source.location) for source in (trained.source, trained.whole, final.source)]
    faults = [*parity.files_faults(*folders), *comparison.other_tokens()]
    if faults:  # the files say it already: no model need be loaded for it
        raise GateError("what would be served is not what was trained:\n  " + "\n  ".join(faults))
    before = comparison.of_the_training()
    found = parity.compare(comparison.of_the_server(before))
    conditions = {
        "parity.same_tokens": ">= 1", "parity.same_answers": config.same_answers,
        "parity.logprob_difference": config.logprob_difference,
    }  # fmt: skip
    metrics = found.metrics()
    verdicts = [
        decide(name, parse_condition(text), metrics[name], None, by_interval=False) for name, text in conditions.items()
    ]
    for verdict in verdicts:
        context.events.emit("gate", **verdict.as_dict())
    gates = [verdict.as_dict() for verdict in verdicts]
    if not all(verdict.passed for verdict in verdicts):
        told = [*(str(verdict) for verdict in verdicts if not verdict.passed), *found.examples]
        raise GateError("what would be served is not what was trained:\n  " + "\n  ".join(told))
    report = {"prompts": len(rows), "metrics": metrics, "gates": gates, "examples": found.examples}
    write_json(context.out / "parity.json", report)
    return Result(metrics=metrics, info={"gates": gates})


class _Comparison:
    """The trained model in this process, and then the final files behind vLLM."""

    def __init__(self, config: Config, context: Context, rows: list[dict[str, Any]]):
        self.config, self.context, self.rows = config, context, rows
        self.others = OtherModels(context, config.registry, [], device=config.device, precision="auto")
        adapter = extensions.load("adapter", config.adapter.name)
        quantization = adapter.quantization(config.adapter, precision=compute_precision("auto", config.device))
        self.trained = self._contender(TRAINED, "trained", quantization)
        self.final = self._contender(FINAL, "model", None)

    def other_tokens(self) -> list[str]:
        """Return what the template and the tokenizer of the final files make of a prompt, where that is something else.

        A final adapter is served with the tokenizer of its own folder, or that of the model that it stands on.
        """
        ours, theirs = (
            Subject(one.tokenizer(self.rows), self.rows, self.context) for one in (self.trained, self.final)
        )
        pairs = {place: (ours.prompt(place), theirs.prompt(place)) for place in range(len(self.rows))}
        differing = {place: pair for place, pair in pairs.items() if pair[0] != pair[1]}
        if not differing:
            return []
        place, (before, after) = next(iter(differing.items()))
        share = f"{len(differing)} of {len(pairs)} prompts have other tokens by the tokenizer and template of the files"
        return [f"{share}; in {self.rows[place].get('source', 'one')} {parity.first_difference(before, after)}"]

    def of_the_training(self) -> list[dict[str, Any]]:
        """Return, for each prompt, its tokens, the trained model's greedy answer, and how likely that is."""
        config, kept = self.config, self.context.work / "trained.json"
        if kept.is_file():  # an earlier attempt of this stage
            found: list[dict[str, Any]] = json.loads(kept.read_text(encoding="utf-8"))
            return found
        task = task_type(self.trained.source)
        places = list(range(len(self.rows)))
        options: dict[str, Any] = {"task": task, "device": config.device, "others": self.others}
        found = []
        for _, subject in contenders.loaded([self.trained], self.rows, self.context, **options):
            subject.label = "the trained model"
            answers = subject.answers(places, max_new_tokens=config.parity.answer_tokens, batch_size=16)
            prompts = [subject.prompt(place) for place in places]
            whole = [
                (ids + subject.tokenizer(answer, add_special_tokens=False)["input_ids"], len(ids))
                for ids, answer in zip(prompts, answers, strict=True)
            ]
            likelihoods = subject.log_probabilities(whole)
            found = [
                {"ids": ids, "answer": answer, "whole": tokens, "logprob": likelihood}
                for ids, answer, (tokens, _), likelihood in zip(prompts, answers, whole, likelihoods, strict=True)
            ]
        write_json(kept, found)
        return found

    def of_the_server(self, before: list[dict[str, Any]]) -> list[parity.Prompt]:
        """Return each prompt beside what the live server makes of it."""
        config, places = self.config, list(range(len(self.rows)))
        options: dict[str, Any] = {"device": config.device, "serving": config.serving, "others": self.others}
        with contenders.served([self.final], self.rows, self.context, **options) as [(contender, subject)]:
            subject.label = "the served model"
            live = subject.port
            answers = subject.answers(places, max_new_tokens=config.parity.answer_tokens, batch_size=16)
            return [
                parity.Prompt(
                    trained_ids=one["ids"],
                    served_ids=_tokenized(live, contender.name, row), trained_answer=one["answer"],
                    served_answer=answer, trained_logprob=one["logprob"],
                    served_logprob=_likelihood(live, contender.name, one["whole"], len(one["ids"])),
                    answer_tokens=len(one["whole"]) - len(one["ids"]), source=str(row.get("source", "")),
                )
                for row, one, answer in zip(self.rows, before, answers, strict=True)
            ]  # fmt: skip

    def _contender(self, name: str, role: str, quantization: Any) -> Contender:
        source = ResolvedModel(str(checked_folder(self.context.inputs[role])), self.context.stage)
        template = self.config.chat_template if name == TRAINED else ""
        if not source.is_adapter:
            return Contender(name, source, chat_template=template)
        base = Base(self.config.reference, self.config.registry).resolve(self.context)
        return Contender(name, source, base, chat_template=template, quantization=quantization)


def _sampled(context: Context, most: int) -> list[dict[str, Any]]:
    """Return some rows with a prompt, held-out ones first, chosen by their content so that the same come again."""
    for name in ("heldout.jsonl", "train.jsonl"):
        path = context.inputs["data"] / name
        rows = [row for row in read_rows(path) if "text" not in row] if path.is_file() else []
        if rows:
            ordered = sorted(rows, key=lambda row: hashlib.sha256(json.dumps(asked(row)).encode()).hexdigest())
            return ordered[:most]
    raise StageError("there are no conversations to compare with; plain text has no chat template (parity.check=false)")


def _tokenized(port: int, name: str, row: dict[str, Any]) -> list[int]:
    request = {"model": name, "messages": asked(row), "add_generation_prompt": True}
    if row.get("tools"):
        request["tools"] = row["tools"]
    return [int(token) for token in _asked(port, "/tokenize", request)["tokens"]]


def _likelihood(port: int, name: str, ids: list[int], skip: int) -> float:
    """Return the summed log-probability that the server gives tokens after the first `skip`, in nats."""
    request = {"model": name, "prompt": ids, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
    told = _asked(port, "/v1/completions", request)["choices"][0]["prompt_logprobs"]
    return float(sum(found[str(token)]["logprob"] for token, found in list(zip(ids, told, strict=True))[skip:]))


def _asked(port: int, path: str, request: dict[str, Any]) -> dict[str, Any]:
    answer = server.post(port, path, request, timeout_s=_TIMEOUT_S)
    if answer is None or answer[0] != 200:
        said = "no answer" if answer is None else answer[1][:300].decode(errors="replace")
        raise StageError(f"parity: the server does not do {path}: {said}")
    found: dict[str, Any] = json.loads(answer[1])
    return found
