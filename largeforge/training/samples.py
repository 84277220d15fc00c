"""Answers to held-out prompts while a model trains, for people to read.

The training must not notice: dropout is off meanwhile and comes back module by module, caches of
attention are the generation's own, and the states of all random generators are put back. What goes
wrong here ends the samples with a note, never the training.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import random
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from largeforge.artifacts import canonical_json
from largeforge.training import distributed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from largeforge.recipe.training import TrainingMethod
    from largeforge.stages.context import Context

BATCH = 8
"""Prompts that are answered at once."""
BEGINNING_TOKENS = 32
"""Tokens of a plain text that are given; at most half of it."""


@dataclass(frozen=True)
class Question:
    """A held-out prompt to answer again and again."""

    prompt: str
    """What a person reads: the last message, or the beginning of a text."""
    tokens: list[int]
    reference: str
    """The answer of the data; empty where it has none."""


def callback(context: Context, *, method: TrainingMethod, model: Any, tokenizer: Any) -> Any:
    """Return a transformers callback that emits `sample` events, or None where none are wanted or possible."""
    if not method.sample_steps or not distributed.is_first():
        return None
    if not (hasattr(model, "can_generate") and model.can_generate()):
        context.events.emit("note", text="sample_steps has no effect: this model scores texts and writes none")
        return None
    rows = chosen(context.inputs["data"] / "heldout.jsonl", method.num_samples)
    if not rows:
        context.events.emit("note", text="sample_steps has no effect: there are no held-out rows")
        return None
    from transformers import TrainerCallback

    class Samples(TrainerCallback):  # type: ignore[misc]
        """Answers before the first step, every `sample_steps`, and after the last one."""

        def __init__(self) -> None:
            self.questions = [question(row, tokenizer, method) for row in rows]
            self.newest = -1
            self.is_on = True

        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            if state.global_step == 0:
                self._answer(model, 0)

        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            if state.global_step % method.sample_steps == 0:
                self._answer(model, state.global_step)

        def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            if state.global_step != self.newest:
                self._answer(model, state.global_step)

        def _answer(self, model: Any, step: int) -> None:
            if not self.is_on:
                return
            self.newest = step
            if is_sharded(model):
                self._stop("the weights are spread over several processes")
                return
            try:
                answers = list(self._answers(model))
            except Exception as error:  # of any kind: a training of days is worth more than its samples
                self._stop(f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}")
                return
            for asked, text in zip(self.questions, answers, strict=True):
                fields = {"prompt": asked.prompt, "text": text, "reference": asked.reference}
                context.events.emit("sample", step=step, **fields)

        def _answers(self, model: Any) -> Iterator[str]:
            for start in range(0, len(self.questions), BATCH):
                prompts = [asked.tokens for asked in self.questions[start : start + BATCH]]
                yield from generate(model, tokenizer, prompts, max_new_tokens=method.sample_tokens)

        def _stop(self, why: str) -> None:
            self.is_on = False
            context.events.emit("note", text=f"no samples from here on: {why}")

    return Samples()


def chosen(path: Path, count: int) -> list[dict[str, Any]]:
    """Return the rows whose prompts have the smallest hashes: the same ones when others are added or reordered."""
    with path.open(encoding="utf-8") as lines:
        rows = (json.loads(line) for line in lines if line.strip())
        return heapq.nsmallest(count, rows, key=_hash)


def _hash(row: dict[str, Any]) -> str:
    asked = row["text"] if "text" in row else canonical_json(_messages(row)[0])
    return hashlib.sha256(asked.encode()).hexdigest()


def _messages(row: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the prompt and the answer of a row of any kind that has messages."""
    if "messages" in row:
        return row["messages"][:-1], row["messages"][-1:]
    if "chosen" in row:
        return row["prompt"], row["chosen"]
    if "completion" in row:
        return row["prompt"], row["completion"] if row["label"] else []
    return row["prompt"], [{"role": "assistant", "content": row["answer"]}] if row.get("answer") else []


def question(row: dict[str, Any], tokenizer: Any, method: TrainingMethod) -> Question:
    """Return a row as a prompt to answer; of a plain text the beginning is given."""
    if "text" in row:
        ids = list(tokenizer(row["text"], add_special_tokens=False)["input_ids"])
        given = max(1, min(BEGINNING_TOKENS, len(ids) // 2))
        rest = tokenizer.decode(ids[given : given + method.sample_tokens])
        return Question(tokenizer.decode(ids[:given]), ids[:given], rest)
    asked, answer = _messages(row)
    tokens = tokenizer.apply_chat_template(
        asked, tools=row.get("tools") or None, add_generation_prompt=True, tokenize=True, return_dict=False
    )
    return Question(_text(asked[-1:]), list(tokens)[-method.max_length :], _text(answer))


def _text(messages: list[dict[str, Any]]) -> str:
    """Return what a person reads of messages; calls of tools as JSON."""
    parts = []
    for message in messages:
        calls = [call.get("function", call) for call in message.get("tool_calls") or ()]
        parts += [message.get("content") or "", *(json.dumps(call, ensure_ascii=False) for call in calls)]
    return "\n".join(part for part in parts if part)


def is_sharded(model: Any) -> bool:
    """Tell whether this process holds only a part of some weight: DTensors of FSDP2, or ZeRO-3."""
    return any(type(weight).__name__ == "DTensor" or hasattr(weight, "ds_id") for weight in model.parameters())


def generate(model: Any, tokenizer: Any, prompts: list[list[int]], *, max_new_tokens: int) -> list[str]:
    """Return the greedy answers of a model that goes on training afterwards as if nothing had happened."""
    import torch

    width = max(len(ids) for ids in prompts)
    pad = int(tokenizer.pad_token_id)
    tokens = torch.tensor([[pad] * (width - len(ids)) + ids for ids in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts], device=model.device)
    with undisturbed(model), torch.no_grad():  # inference_mode would leave tensors behind that refuse gradients
        output = model.generate(
            input_ids=tokens, attention_mask=mask, max_new_tokens=max_new_tokens, do_sample=False, num_beams=1,
            use_cache=True, pad_token_id=pad,
        )  # fmt: skip
    return [str(text) for text in tokenizer.batch_decode(output[:, width:], skip_special_tokens=True)]


@contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """Put a model into evaluation, and afterwards every module and every random generator back as it was."""
    import numpy
    import torch

    modes = [(module, module.training) for module in model.modules()]
    states = random.getstate(), numpy.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    model.eval()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(states[0])
        numpy.random.set_state(states[1])
        for module, is_training in modes:
            module.training = is_training
