"""Our token ids and loss masks are those that trl makes of the same rows, over many templates and tokenizers."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from largeforge.data.faults import RowError
from largeforge.tokens import loaded, parts, rows
from largeforge.tokens.engine import FastEngine
from largeforge.tokens.parts import Wanted
from largeforge.tokens.slow import SlowEngine
from largeforge.tokens.template import Template, training_template
from tests.tokens.tokenizers import SPECIAL, STYLES, byte_level, metaspace, wrapped

CORES = {"bytes": byte_level, "metaspace": metaspace}
PIECES = [
    "Hello", " Hello", "\n\nHello", "\n", "", "  two  spaces  ", "order 4711", "<|im_start|>", "straße 🙂", "東京",
    "user\nassistant", "### assistant:\n", "[/INST]", "a\r\n", "{'a': [1, 2.5]}", "<think>\nhm\n</think>\n\nyes", "\t",
]  # fmt: skip


def chats(*, count: int, system: bool = True) -> list[dict[str, Any]]:
    """Return conversations that begin and end with what is hard to cut into tokens."""
    pick = random.Random(7)

    def text() -> str:
        return "".join(pick.choices(PIECES, k=pick.randint(1, 4)))

    found = []
    for number in range(count):
        turns = [{"role": "system", "content": text()}] if system and pick.random() < 0.5 else []
        for _ in range(pick.randint(1, 3)):
            turns += [{"role": "user", "content": text()}, {"role": "assistant", "content": text() + "."}]
        found.append({"messages": turns, "source": f"chats.jsonl:{number + 1}"})
    return found


def ours(tokenizer: Any, items: list[dict[str, Any]], kind: Any, learn: Any = "completion") -> dict[str, list[Any]]:
    """Return the columns that we make."""
    engine = loaded.engine(tokenizer)
    assert isinstance(engine, FastEngine)
    part = parts.tokenize([json.dumps(row).encode() for row in items], engine, Wanted(kind, learn, 0))
    assert not part.bad
    columns = {}
    for name, ids, sizes in zip(rows.COLUMNS[kind], part.columns, part.sizes, strict=True):
        ends = list(itertools.accumulate(sizes, initial=0))
        columns[name] = [list(ids[start:end]) for start, end in itertools.pairwise(ends)]
    return columns


def theirs(trainer: str, config: str, tokenizer: Any, items: list[dict[str, Any]], **settings: Any) -> Any:
    """Return the dataset that a trainer of trl makes."""
    import trl
    from datasets import Dataset

    arguments = getattr(trl, config)(
        output_dir="unused", use_cpu=True, bf16=False, max_length=None, report_to="none", **settings
    )
    masks = settings.get("assistant_only_loss", False)
    marked = None
    if masks and not trl.chat_template_utils.has_generation_markers(tokenizer.chat_template):
        marked = trl.chat_template_utils.get_training_chat_template(tokenizer)
    completion = "prompt" in items[0]
    self = SimpleNamespace(
        _tokenizer=tokenizer, chat_template=marked, completion_only_loss=completion, calculate_KL=False,
        undesirable_weight=1.0, desirable_weight=1.0,
    )  # fmt: skip
    given = [Dataset.from_list([rows.plain(row) for row in items]), tokenizer, arguments]
    prepare = getattr(trl, trainer)._prepare_dataset
    if trainer == "SFTTrainer":
        given += [False, None]
    return prepare(self, *given, "train")


def asked(row: dict[str, Any]) -> dict[str, Any]:
    return {"prompt": row["messages"][:-1], "completion": row["messages"][-1:], "source": row["source"]}


@pytest.fixture(autouse=True)
def quiet() -> None:
    import datasets

    datasets.disable_progress_bars()


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("style", STYLES)
def test_the_answer_begins_where_trl_says(style: str, core: str) -> None:
    tokenizer = wrapped(CORES[core](SPECIAL), STYLES[style])
    items = chats(count=60, system=style != "mistral")
    expected = theirs("SFTTrainer", "SFTConfig", tokenizer, [asked(row) for row in items])
    found = ours(tokenizer, items, "sft")
    assert found["input_ids"] == list(expected["input_ids"])
    assert found["labels"] == list(expected["labels"])
    whole = theirs("SFTTrainer", "SFTConfig", tokenizer, items)
    assert ours(tokenizer, items, "sft", "all")["labels"] == list(whole["labels"])


@pytest.mark.parametrize("name", ["marked", "llama3", "qwen2_5", "qwen3", "phi3", "gemma"])
def test_every_answer_is_where_trl_says(name: str) -> None:
    import trl

    path = Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja"
    template = STYLES[name] if name in STYLES else path.read_text(encoding="utf-8")
    tokenizer = wrapped(byte_level([*SPECIAL, "<|user|>", "<|assistant|>", "<|end|>"]), template)
    items = chats(count=40, system=name != "gemma")
    expected = theirs("SFTTrainer", "SFTConfig", tokenizer, items, assistant_only_loss=True)
    found = ours(tokenizer, items, "sft", "assistant")
    assert found["input_ids"] == list(expected["input_ids"])
    assert found["labels"] == list(expected["labels"])


@pytest.mark.parametrize("core", CORES)
def test_texts_are_those_of_trl(core: str) -> None:
    tokenizer = wrapped(CORES[core](SPECIAL), STYLES["chatml"])
    items = [{"text": row["messages"][-1]["content"], "source": row["source"]} for row in chats(count=30)]
    items.append({"text": "ends itself<|im_end|>", "source": "x"})
    expected = theirs("SFTTrainer", "SFTConfig", tokenizer, items)
    assert ours(tokenizer, items, "text")["input_ids"] == list(expected["input_ids"])


@pytest.mark.parametrize("style", ["llama", "alpaca"])
def test_preferences_and_ratings_are_those_of_trl(style: str) -> None:
    tokenizer = wrapped(byte_level(SPECIAL), STYLES[style])
    items = [asked(row) for row in chats(count=40)]
    pairs = [
        {"prompt": row["prompt"], "chosen": row["completion"], "rejected": other["completion"], "source": "x"}
        for row, other in itertools.pairwise(items)
    ]
    expected = theirs("DPOTrainer", "DPOConfig", tokenizer, pairs)
    for name, column in ours(tokenizer, pairs, "preference").items():
        assert column == list(expected[name]), name
    whole = theirs("RewardTrainer", "RewardConfig", tokenizer, pairs)
    found = ours(tokenizer, pairs, "preference")
    assert [a + b for a, b in zip(found["prompt_ids"], found["chosen_ids"], strict=True)] == list(whole["chosen_ids"])
    rated = [{**row, "label": number % 3 > 0} for number, row in enumerate(items)]
    expected = theirs("KTOTrainer", "KTOConfig", tokenizer, rated)
    for name, column in ours(tokenizer, rated, "unpaired").items():
        assert column == list(expected[name]), name


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Weather of a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
CALLS = [
    {"role": "system", "content": "You help."},
    {"role": "user", "content": "How is it in Bonn & Köln?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"type": "function", "function": {"name": "weather", "arguments": {"city": "Bonn", "days": 2}}},
            {"type": "function", "function": {"name": "weather", "arguments": {"city": "Köln", "at": [1.5, None]}}},
        ],
    },
    {"role": "tool", "name": "weather", "content": '{"sky": "clear"}'},
    {"role": "assistant", "content": "<think>\nBoth.\n</think>\n\nClear."},
    {"role": "user", "content": "Thanks"},
    {"role": "assistant", "content": "Welcome."},
]


def test_every_template_of_trl_renders_as_with_transformers() -> None:
    import trl

    compared = 0
    core = byte_level(SPECIAL)
    conversations = [(CALLS, TOOLS), (CALLS[:2], None), (CALLS[5:], None), ([CALLS[1], CALLS[6]], None)]
    for path in sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        tokenizer = wrapped(core, source)
        template = Template(source, tokenizer.special_tokens_map)
        for (messages, tools), prompt in itertools.product(conversations, (False, True)):
            options = {"tools": tools, "add_generation_prompt": prompt}
            try:
                expected = tokenizer.apply_chat_template(messages, tokenize=False, **options)
            except Exception:
                with pytest.raises(RowError):
                    template.render(messages, tools, generation_prompt=prompt)
                continue
            assert template.render(messages, tools, generation_prompt=prompt) == expected, path.name
            compared += 1
    assert compared > 300


def test_training_templates_are_those_that_trl_takes() -> None:
    import trl
    from trl.chat_template_utils import get_training_chat_template, has_generation_markers

    known = 0
    for path in sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja")):
        tokenizer = wrapped(byte_level(SPECIAL[:4]), path.read_text(encoding="utf-8"), eos="</s>")
        if has_generation_markers(tokenizer.chat_template):
            continue
        try:
            expected = get_training_chat_template(tokenizer)
        except ValueError:
            expected = ""
        assert training_template(tokenizer.chat_template) == expected, path.name
        known += bool(expected)
    assert known > 20


def test_tools_and_calls_reach_the_template() -> None:
    import trl

    source = (Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja").read_text(encoding="utf-8")
    tokenizer = wrapped(byte_level(SPECIAL), source)
    row = {"messages": CALLS, "tools": TOOLS, "source": "x:1"}
    expected = tokenizer.apply_chat_template(CALLS, tools=TOOLS, return_dict=False)
    for learn in ("completion", "all"):
        assert ours(tokenizer, [row], "sft", learn)["input_ids"] == [expected]
    assert "Köln" in tokenizer.decode(expected)
    assert "Weather of a city" in tokenizer.decode(expected)


@pytest.mark.parametrize("learn", ["completion", "assistant", "all"])
@pytest.mark.parametrize("style", ["llama", "chatml", "marked"])
def test_a_tokenizer_with_ways_of_its_own_is_asked_itself(style: str, learn: Any) -> None:
    from transformers import PreTrainedTokenizerFast

    class Own(PreTrainedTokenizerFast):  # type: ignore[misc]
        def apply_chat_template(self, conversation: Any, *args: Any, **options: Any) -> Any:
            shouted = [{**message, "content": message["content"].upper()} for message in conversation]
            return super().apply_chat_template(shouted, *args, **options)

    plain = wrapped(byte_level(SPECIAL), STYLES[style])
    own = Own(
        tokenizer_object=plain.backend_tokenizer, bos_token="<s>", eos_token="<|im_end|>", chat_template=STYLES[style]
    )
    engine = loaded.engine(own)
    assert isinstance(engine, SlowEngine)
    wanted = Wanted("sft", learn, 0)
    items = chats(count=15)
    shouted = [
        {**row, "messages": [{**one, "content": one["content"].upper()} for one in row["messages"]]} for row in items
    ]
    slow = parts.tokenize([json.dumps(row).encode() for row in items], engine, wanted)
    fast = parts.tokenize([json.dumps(row).encode() for row in shouted], loaded.engine(plain), wanted)
    assert slow == fast
