"""Rows as ORPO's trainer gets them: with their tools, which it would leave out by itself."""

from __future__ import annotations

from typing import Any

from largeforge.methods import orpo

TEMPLATE = (
    "{% for tool in tools or [] %}[{{ tool['function']['name'] }}]{% endfor %}"
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}"
    "{% for call in message.tool_calls or [] %}({{ call['function']['name'] }}){% endfor %}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def tokenizer() -> Any:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=core, chat_template=TEMPLATE, eos_token="<unk>")


def test_tools_and_calls_are_in_the_text() -> None:
    from datasets import Dataset, Features, Json, List

    tool = {"type": "function", "function": {"name": "add", "parameters": {"a": 1}}}
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    messages = List(Json())
    rows = Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": "1+1"}],
                "chosen": [{"role": "assistant", "content": "", "tool_calls": [call]}],
                "rejected": [{"role": "assistant", "content": "3"}],
                "tools": [tool],
            },
            {
                "prompt": [{"role": "user", "content": "Hi"}],
                "chosen": [{"role": "assistant", "content": "Hello"}],
                "rejected": [{"role": "assistant", "content": "No"}],
                "tools": None,
            },
        ],
        features=Features(prompt=messages, chosen=messages, rejected=messages, tools=Json()),
    )
    assert orpo._rendered(rows, tokenizer()).to_list() == [
        {"prompt": "[add]<user>1+1</s><assistant>", "chosen": "(add)</s>", "rejected": "3</s>"},
        {"prompt": "<user>Hi</s><assistant>", "chosen": "Hello</s>", "rejected": "No</s>"},
    ]
    assert orpo._rendered(None, tokenizer()) is None
