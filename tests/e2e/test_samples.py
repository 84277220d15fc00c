"""Answers during a training: there to be read, and without a trace in what is learnt."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from largeforge.events import Events
from largeforge.recipe.training import TrainingMethod
from largeforge.stages.context import Context
from largeforge.training import samples

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

METHOD = TrainingMethod(name="sft", sample_steps=4, num_samples=3, sample_tokens=6)
CHATS = [
    {"messages": [{"role": "user", "content": f"question {n}"}, {"role": "assistant", "content": f"answer {n}"}]}
    for n in range(20)
]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE({token: index for index, token in enumerate(["<end>", *alphabet])}, []))
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<end>", pad_token="<end>")
    made.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    return made


def context_of(folder: Path, rows: list[dict[str, Any]]) -> Context:
    (folder / "heldout.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Context("train", {"data": folder}, folder, folder, Events("train", io.StringIO()), "lock")


def told(context: Context, kind: str) -> list[dict[str, Any]]:
    assert isinstance(context.events._stream, io.StringIO)
    events = [json.loads(line) for line in context.events._stream.getvalue().splitlines()]
    return [event for event in events if event["kind"] == kind]


def model_of(tokenizer: Any, kind: str = "Qwen2ForCausalLM") -> Any:
    import torch
    import transformers

    torch.manual_seed(5)
    config = transformers.Qwen2Config(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=len(tokenizer), attention_dropout=0.2, pad_token_id=0, eos_token_id=0, bos_token_id=None,
    )  # fmt: skip
    return getattr(transformers, kind)(config)


def train(folder: Path, tokenizer: Any, *callbacks: Any) -> list[float]:
    """Train a model with dropout for a few steps, and return the losses and the last norm of its weights."""
    import torch
    from transformers import Trainer, TrainingArguments

    texts = [tokenizer(f"row {n} of the data", return_tensors="pt")["input_ids"][0] for n in range(10, 50)]
    data = [{"input_ids": ids, "labels": ids} for ids in texts]
    arguments = TrainingArguments(
        str(folder), use_cpu=True, max_steps=10, per_device_train_batch_size=4, logging_steps=1, report_to="none",
        save_strategy="no", disable_tqdm=True, seed=1, gradient_checkpointing=True, learning_rate=1e-3,
    )  # fmt: skip
    model = model_of(tokenizer)
    trainer = Trainer(model, arguments, train_dataset=data, callbacks=list(callbacks))
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 10
    return [*losses, *(float(weight.detach().double().norm()) for weight in model.parameters()), float(torch.rand(1))]


def test_a_training_with_samples_is_bitwise_the_one_without(tmp_path: Path, tokenizer: Any) -> None:
    context = context_of(tmp_path, CHATS)
    answering = samples.callback(context, method=METHOD, model=model_of(tokenizer), tokenizer=tokenizer)
    assert train(tmp_path / "with", tokenizer, answering) == train(tmp_path / "without", tokenizer)
    found = told(context, "sample")
    assert [event["step"] for event in found] == [0] * 3 + [4] * 3 + [8] * 3 + [10] * 3
    assert not told(context, "note")
    assert {event["reference"] for event in found} == {
        event["prompt"].replace("question", "answer") for event in found
    }, "an answer stands beside another prompt"
    assert len({event["prompt"] for event in found}) == 3
    first, last = ([event["text"] for event in found if event["step"] == step] for step in (0, 10))
    assert first != last, "the answers do not follow the training"


def test_the_same_prompts_are_chosen_when_rows_are_added(tmp_path: Path) -> None:
    context_of(tmp_path, CHATS)
    before = samples.chosen(tmp_path / "heldout.jsonl", 3)
    context_of(
        tmp_path, [*reversed(CHATS), {"messages": [{"role": "user", "content": "new"}, CHATS[0]["messages"][1]]}]
    )
    after = samples.chosen(tmp_path / "heldout.jsonl", 3)
    assert len([row for row in after if row in before]) >= 2


USER = [{"role": "user", "content": "2 + 3?"}]
CALL = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "add"}}]}


@pytest.mark.parametrize(
    ("row", "prompt", "reference"),
    [
        ({"prompt": USER, "chosen": [{"role": "assistant", "content": "5"}], "rejected": []}, "2 + 3?", "5"),
        ({"prompt": USER, "completion": [{"role": "assistant", "content": "5"}], "label": True}, "2 + 3?", "5"),
        ({"prompt": USER, "completion": [{"role": "assistant", "content": "6"}], "label": False}, "2 + 3?", ""),
        ({"prompt": USER, "answer": "5"}, "2 + 3?", "5"),
        ({"prompt": USER, "answer": ""}, "2 + 3?", ""),
        ({"messages": [*USER, CALL]}, "2 + 3?", '{"name": "add"}'),
        ({"text": "parcels leave at four"}, "parcels le", "ave at"),
    ],
)
def test_rows_of_every_kind_become_questions(row: dict[str, Any], prompt: str, reference: str, tokenizer: Any) -> None:
    found = samples.question(row, tokenizer, METHOD)
    assert (found.prompt, found.reference) == (prompt, reference)
    assert found.tokens == tokenizer(prompt if "text" in row else "user: 2 + 3?\n")["input_ids"]


def test_where_no_answers_are_possible_the_training_goes_on_with_one_note(tmp_path: Path, tokenizer: Any) -> None:
    context = context_of(tmp_path, CHATS)
    scorer = model_of(tokenizer, "Qwen2ForSequenceClassification")
    assert samples.callback(context, method=METHOD, model=scorer, tokenizer=tokenizer) is None
    assert "scores texts" in told(context, "note")[0]["text"]
    nothing = context_of(tmp_path, [])
    assert samples.callback(nothing, method=METHOD, model=model_of(tokenizer), tokenizer=tokenizer) is None
    assert "no held-out rows" in told(nothing, "note")[0]["text"]
    off = TrainingMethod(name="sft")
    assert samples.callback(context, method=off, model=model_of(tokenizer), tokenizer=tokenizer) is None


def test_an_error_while_answering_ends_the_samples_and_not_the_training(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = context_of(tmp_path, CHATS)
    answering = samples.callback(context, method=METHOD, model=model_of(tokenizer), tokenizer=tokenizer)

    def fail(*_: Any, **__: Any) -> list[str]:
        raise RuntimeError("out of memory\nand more")

    monkeypatch.setattr(samples, "generate", fail)
    train(tmp_path / "with", tokenizer, answering)
    assert [note["text"] for note in told(context, "note")] == ["no samples from here on: RuntimeError: out of memory"]
    assert not told(context, "sample")


def test_weights_in_parts_are_recognised(tmp_path: Path, tokenizer: Any) -> None:
    model = model_of(tokenizer)
    assert not samples.is_sharded(model)
    next(model.parameters()).ds_id = 3
    assert samples.is_sharded(model)
