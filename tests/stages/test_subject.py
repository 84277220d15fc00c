"""What evaluators are given of a loaded model: where answers begin, and scores that do not depend on the batch."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForSequenceClassification, Qwen2Config

from largeforge.stages.loaded_subject import LoadedSubject


class Letters:
    """A tokenizer with a token per letter; `thinks`: the template answers a bare prompt with a thought of its own."""

    pad_token_id, eos_token = 0, "$"

    def __init__(self, *, thinks=False):
        self.thinks = thinks

    def apply_chat_template(self, messages, *, tools, add_generation_prompt, tokenize, return_dict):
        text = "".join(f"{message['role'][0]}:{message['content']};" for message in messages)
        text = "".join(tool["name"] for tool in tools or []) + text
        return [ord(letter) for letter in text + add_generation_prompt * ("a:" + self.thinks * "hm")]

    def __call__(self, text):
        return {"input_ids": [ord(letter) for letter in text]}


def subject(**options):
    return LoadedSubject(SimpleNamespace(eval=lambda: None), Letters(**options), [], None)


PROMPT = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}, {"role": "user", "content": "z"}]
ANSWER = [{"role": "assistant", "content": "ok"}]


def test_an_answer_begins_behind_its_prompt():
    ids, before = subject().encode(PROMPT, ANSWER, tools=[{"name": "T"}])
    text = "".join(map(chr, ids))
    assert (text[:before], text[before:]) == ("Tu:x;a:y;u:z;a:", "ok;")


def test_an_answer_begins_where_the_template_writes_the_prompt_alone_in_another_way():
    ids, before = subject(thinks=True).encode(PROMPT, ANSWER)
    assert "".join(map(chr, ids[before:])) == "ok;"


@pytest.mark.parametrize("text", ["ab", "ab$"])
def test_text_ends_once(text):
    assert subject().text_tokens(text) == [ord(letter) for letter in "ab$"]


def test_scores_are_those_of_each_row_alone_and_nothing_without_a_head():
    torch.manual_seed(0)
    config = Qwen2Config(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        vocab_size=128, num_labels=1, pad_token_id=0,
    )  # fmt: skip
    model = AutoModelForSequenceClassification.from_config(config)
    rows = [list(range(3, 3 + size)) for size in (5, 40, 12)]
    scoring = LoadedSubject(model, Letters(), [], None, has_reward_head=True)
    alone = [scoring.rewards([row])[0] for row in rows]
    assert scoring.rewards(rows) == pytest.approx(alone, rel=1e-4)
    assert len(set(alone)) == 3
    assert LoadedSubject(model, Letters(), [], None).rewards(rows) == [0.0, 0.0, 0.0]
