"""What trainers are given: rows in trl's columns as they were written, and packing that keeps them apart."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from largeforge.events import Events
from largeforge.recipe.training import TrainingMethod
from largeforge.stages.context import Context
from largeforge.training.datasets import Prepared
from tests.e2e.test_tokens import CALLS, TOOLS, chats
from tests.tokens.tokenizers import SPECIAL, STYLES, byte_level, wrapped

METHOD = TrainingMethod(name="sft", max_length=400, eval_steps=5)


class Sft(TrainingMethod):
    packing: bool = True
    packing_strategy: str = "bfd_split"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import datasets

    datasets.disable_progress_bars()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def prepared(folder: Path, items: list[dict[str, Any]], method: TrainingMethod = METHOD, **options: Any) -> Prepared:
    (folder / "data").mkdir(exist_ok=True)
    lines = [json.dumps({"source": f"f:{number}", **row}, ensure_ascii=False) for number, row in enumerate(items)]
    (folder / "data/train.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "data/heldout.jsonl").write_text("\n".join(lines[:3]) + "\n" if options.get("heldout", True) else "")
    stream = options.get("stream", io.StringIO())
    context = Context(
        "train", {"data": folder / "data"}, folder / "out", folder / "work", Events("train", stream), "lock"
    )
    return Prepared(context, method, wrapped(byte_level(SPECIAL), options.get("template", STYLES["chatml"])))


def test_rows_with_tools_come_out_as_they_went_in(here: Path) -> None:
    other = [CALLS[1], {**CALLS[2], "tool_calls": [{"function": {"name": "f", "arguments": {"deep": {"a": [1, {}]}}}}]}]
    items: list[dict[str, Any]] = [
        {"messages": [CALLS[1], CALLS[6]]},
        {"messages": CALLS, "tools": TOOLS},
        {"messages": [*other, CALLS[6]], "tools": TOOLS},
    ]
    found = prepared(here, items)
    examples = found.examples("train")
    assert [row["messages"] for row in examples] == [row["messages"] for row in items]
    assert [row["tools"] for row in examples] == [None, TOOLS, TOOLS]
    render = found.tokenizer.apply_chat_template
    template = (Path(str(__import__("trl").__file__)).parent / "chat_templates/qwen3.jinja").read_text()
    for row, item in zip(examples, items, strict=True):
        written = render(item["messages"], tools=item.get("tools"), chat_template=template, tokenize=False)
        assert render(row["messages"], tools=row["tools"], chat_template=template, tokenize=False) == written
    assert "/work/datasets/" in examples.cache_files[0]["filename"]


def test_every_kind_has_trls_columns(here: Path) -> None:
    ask, yes, no = [CALLS[1]], [CALLS[6]], [{"role": "assistant", "content": "No."}]
    kinds: list[tuple[dict[str, Any], list[str]]] = [
        ({"text": "abc"}, ["input_ids", "labels"]),
        ({"prompt": ask, "chosen": yes, "rejected": no}, ["prompt_ids", "chosen_ids", "rejected_ids"]),
        ({"prompt": ask, "completion": yes, "label": True}, ["prompt_ids", "completion_ids", "label"]),
        ({"prompt": ask, "answer": "42"}, ["prompt_ids"]),
    ]
    for number, (row, columns) in enumerate(kinds):
        folder = here / str(number)
        folder.mkdir()
        found = prepared(folder, [row, row])
        assert found.examples("train")[1] == row
        assert found.tokenized("train", learn="all").column_names == columns
        assert len(found.tokenized("heldout", learn="all")) == 2


def test_held_out_rows_are_given_where_they_are_wanted(here: Path) -> None:
    items = chats(count=5)
    assert len(prepared(here, items).tokenized("heldout", learn="completion")) == 3
    assert prepared(here, items, heldout=False).tokenized("heldout", learn="completion") is None
    never = TrainingMethod(name="sft", eval_steps=0)
    assert prepared(here, items, never).examples("heldout") is None


def test_the_check_tells_lengths_and_what_is_suspicious(here: Path) -> None:
    stream = io.StringIO()
    silent = "{% for m in messages if m.role != 'system' %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    system = {"messages": [CALLS[0], CALLS[1], CALLS[6]]}
    lengths = prepared(here, [system] * 4, stream=stream, template=silent).check()
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    notes = [event["text"] for event in events if event["kind"] == "note"]
    assert any("leaves out the system message (4 of 4 rows" in text for text in notes)
    assert any("the end of the answer is not learnt" in text for text in notes)
    table = next(event for event in events if event["kind"] == "table")
    assert sum(row[1] for row in table["rows"]) == lengths.rows == 4


def test_rows_that_packing_cuts_may_be_of_any_length(here: Path) -> None:
    items = [{"text": "word " * 300}]
    cutting = Sft(name="sft", max_length=64)
    assert prepared(here, items, cutting).check().max > 64
    for whole in (replace_method(cutting, packing=False), replace_method(cutting, packing_strategy="bfd")):
        with pytest.raises(Exception, match="longer than max_length = 64"):
            prepared(here, items, whole).check()


def replace_method(method: Sft, **values: Any) -> Sft:
    return method.model_copy(update=values)


def test_packed_rows_do_not_see_each_other_without_flash_attention(here: Path) -> None:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM, set_seed
    from trl import SFTConfig, SFTTrainer

    set_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=600, num_key_value_heads=2, **shape)).eval()
    found = prepared(here, chats(count=24))
    dataset = found.tokenized("train", learn="completion")
    arguments = SFTConfig(
        output_dir=str(here / "trl"), use_cpu=True, bf16=False, gradient_checkpointing=False, report_to="none",
        packing=True, max_length=400, per_device_train_batch_size=2, max_steps=1, disable_tqdm=True,
    )  # fmt: skip
    trainer = SFTTrainer(model=model, args=arguments, train_dataset=dataset, processing_class=found.tokenizer)
    packed = trainer.train_dataset
    assert len(packed) < len(dataset) / 2
    assert sum(map(len, packed["input_ids"])) == sum(map(len, dataset["input_ids"]))
    batch = {key: value for key, value in next(iter(trainer.get_train_dataloader())).items() if key != "labels"}
    with torch.inference_mode():
        logits = model(**batch).logits[0]
        starts = [*(batch["position_ids"][0] == 0).nonzero().flatten().tolist(), len(logits)]
        assert len(starts) > 5
        for start, end in itertools.pairwise(starts):
            alone = model(input_ids=batch["input_ids"][:, start:end]).logits[0]
            torch.testing.assert_close(logits[start:end], alone, atol=1e-4, rtol=1e-4)
    assert trainer.train().training_loss > 0
    assert not list((here / "cache").rglob("cache-*.arrow"))  # what trl derives goes away with the run
    assert list((here / "work").rglob("cache-*.arrow"))
