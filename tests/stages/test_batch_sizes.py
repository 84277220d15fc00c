"""Every score of a real model is the same whatever the batch size: how a model is judged is no matter of memory."""

from __future__ import annotations

import random

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config

from largeforge.evaluators import (
    exact_match,
    f1,
    label_auc,
    loss,
    multiple_choice,
    preference_accuracy,
    regex,
    reward,
    rouge,
)
from largeforge.rewards import length
from largeforge.stages.loaded_subject import LoadedSubject

TEMPLATE = (
    "{% for message in messages %}{{ message.content }}{% if message.role == 'assistant' %}${% else %}>{% endif %}"
    "{% endfor %}"
)
LETTERS = "abcdefg "
SIZES = (1, 3, 64)


def tokenizer():
    """Return a tokenizer with a token per letter, in which `$` ends an answer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {letter: place for place, letter in enumerate(["_", "$", ">", *LETTERS])}
    whole = Tokenizer(models.WordLevel(vocabulary, unk_token="_"))
    whole.pre_tokenizer, whole.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=whole, eos_token="$", pad_token="_", unk_token="_", chat_template=TEMPLATE
    )


class Silent:
    events = property(lambda self: self)

    def emit(self, *words, **more):
        pass


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = Qwen2Config(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        vocab_size=12, initializer_range=0.3, eos_token_id=1, pad_token_id=0, bos_token_id=None,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def spoken(draw, least=1, most=40):
    return "".join(draw.choices(LETTERS, k=draw.randint(least, most)))


def chats(draw):
    return [
        {"messages": [{"role": "user", "content": spoken(draw)}, {"role": "assistant", "content": spoken(draw, 1, 3)}]}
        for _ in range(40)
    ]


def sides(draw):
    def turn(role):
        return [{"role": role, "content": spoken(draw)}]

    return [
        {"prompt": turn("user"), "chosen": turn("assistant"), "rejected": turn("assistant"),
         "completion": turn("assistant"), "label": draw.random() < 0.5}
        for _ in range(40)
    ]  # fmt: skip


def questions(draw):
    return [
        {"prompt": [{"role": "user", "content": spoken(draw)}], "choices": [spoken(draw) for _ in range(4)],
         "answer": 0, "source": "q"}
        for _ in range(25)
    ]  # fmt: skip


SHORT = {"max_new_tokens": 12}
CASES = [
    (exact_match, exact_match.Config, SHORT, chats),
    (f1, f1.Config, SHORT, chats),
    (rouge, rouge.Config, SHORT, chats),
    (regex, regex.Config, {**SHORT, "pattern": "a.*b"}, chats),
    (reward, reward.Config, {**SHORT, "rewards": {"length": length.Config(minimum=2, maximum=11)}}, chats),
    (loss, loss.Config, {}, chats),
    (preference_accuracy, preference_accuracy.Config, {}, sides),
    (label_auc, label_auc.Config, {}, sides),
    (multiple_choice, multiple_choice.Config, {"path": "x"}, questions),
]


@pytest.mark.parametrize(
    ("evaluator", "config", "settings", "rows"), CASES, ids=lambda one: getattr(one, "__name__", "")
)
def test_scores_do_not_depend_on_the_batch_size(model, evaluator, config, settings, rows):
    content = rows(random.Random(5))
    if rows is chats:  # every third answer is the right one
        places = list(range(0, len(content), 3))
        alone = LoadedSubject(model, tokenizer(), content, Silent()).answers(places, max_new_tokens=12, batch_size=1)
        for place, answer in zip(places, alone, strict=True):
            content[place]["messages"][-1]["content"] = answer
    found = []
    for size in SIZES:
        subject = LoadedSubject(model, tokenizer(), content, Silent())
        series = evaluator.run(config(**settings, batch_size=size), subject)
        values = {name: [-9.0 if value is None else value for value in one.values] for name, one in series.items()}
        found.append((values, subject.samples))
    (first, said), *others = found
    for values, samples in others:
        assert values.keys() == first.keys()
        for name, one in values.items():
            assert one == pytest.approx(first[name], rel=1e-4)
        assert samples == said
    assert any(len(set(values)) > 1 for values in first.values())
    assert not said or len({sample["answer"] for sample in said}) > len(said) / 3
