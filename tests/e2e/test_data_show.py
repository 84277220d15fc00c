"""`largeforge data show`: rows as their training would see them, before it costs anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from largeforge import cli
from tests.e2e.test_tokens import CALLS, TOOLS
from tests.tokens.tokenizers import CHATML, SPECIAL, byte_level, wrapped

RECIPE = """\
# @package _global_
# Rows to look at.
defaults:
  - /model: tiny_general
  - /dataset: jsonl
  - /method: sft
  - override /hardware: cpu
  - _self_
name: looked_at
model: {name: own, ref: "path:model", architecture: null, tokenizer: null}
dataset: {path: rows.jsonl, heldout_fraction: 0.2}
"""
ROWS = [{"prompt": f"Question {number}?", "response": f"Answer {number}."} for number in range(40)]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/looked_at.yaml").write_text(RECIPE)
    give(tmp_path, CHATML)
    write(tmp_path, ROWS)
    return tmp_path


def give(folder: Path, template: str, **options: Any) -> None:
    """Write the files of a model that matter here: its weights are not looked at."""
    wrapped(byte_level(SPECIAL), template, **options).save_pretrained(folder / "model")
    (folder / "model/config.json").write_text('{"model_type": "qwen2"}')
    (folder / "model/model.safetensors").touch()


def write(folder: Path, items: list[dict[str, Any]]) -> None:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in items))


def show(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    try:
        assert cli.main(["data", "show", "+recipe=looked_at", *words]) == code
    finally:
        out, err = capsys.readouterr()
    return out if code == 0 else err


def test_rows_are_shown_token_by_token_with_what_is_learnt(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = show(capsys, "--row", "rows.jsonl:7")
    lines = [line.replace("¦", "") for line in out.splitlines()]
    assert lines[1:5] == [
        "  · «<|im_start|>»user\\n",
        "  · Question 6?«<|im_end|>»\\n",
        "  · «<|im_start|>»assistant\\n",
        "  + Answer 6.«<|im_end|>»\\n",
    ]
    assert lines[0].startswith("rows.jsonl:7  ")
    assert "warning" not in out
    many = show(capsys, "--rows", "2")
    assert many.count("tokens learnt") == 2
    assert "all train rows: " in many
    assert "chat template: sha256 " in many
    assert show(capsys, "--split", "heldout", "--rows", "1") != show(capsys, "--rows", "1")
    assert not (here / "runs").exists()


def test_a_program_gets_the_same_as_numbers(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(show(capsys, "--row", "rows.jsonl:7", "--json"))
    (row,) = found["rows"]
    (part,) = row["parts"]
    assert "".join(token["text"] for token in part["tokens"] if token["learnt"]) == "Answer 6.<|im_end|>\n"
    assert part["learnt"] == sum(token["learnt"] for token in part["tokens"])
    assert [token["text"] for token in part["tokens"] if token["special"]][:2] == ["<|im_start|>", "<|im_end|>"]
    assert (found["kind"], found["warnings"], row["source"]) == ("sft", [], "rows.jsonl:7")


def test_the_text_alone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = show(capsys, "--row", "rows.jsonl:7", "--raw")
    assert raw.startswith("<|im_start|>user\nQuestion 6?<|im_end|>\n<|im_start|>assistant\nAnswer 6.")


def test_other_settings_other_masks(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "  + «<|im_start|>»user" in show(capsys, "method.completion_only_loss=false", "--rows", "1")
    write(here, [{"messages": [*CALLS[1:2], CALLS[6], CALLS[5], CALLS[6]]}] * 9)
    answers = show(capsys, "method.assistant_only_loss=true", "--rows", "1")
    assert answers.count("+ ") == 2
    assert show(capsys, "--rows", "1").count("+ ") == 1


def test_preferences_and_texts_are_shown_in_their_parts(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here, [{"prompt": f"Q{n}?", "chosen": "Yes.", "rejected": "No."} for n in range(9)])
    plain = show(capsys, "method=dpo", "--rows", "1").replace("¦", "")
    places = [plain.index(text) for text in ("  prompt:", "  chosen:", "+ Yes.", "  rejected:", "+ No.")]
    assert places == sorted(places)
    write(here, [{"prompt": f"Q{n}?", "completion": "Yes.", "label": n % 2 == 0} for n in range(9)])
    assert "label " in show(capsys, "method=kto", "--rows", "1")
    write(here, [{"text": f"Some text {n}."} for n in range(9)])
    assert "+ Some text" in show(capsys, "method=pretrain", "--rows", "1").replace("¦", "")


def test_a_wrong_template_is_warned_about(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here, [{"messages": CALLS, "tools": TOOLS}] * 9)
    found = json.loads(show(capsys, "--json"))
    said = " ".join(found["warnings"])
    assert "leaves out tool calls" in said
    assert "leaves out the tools" in said
    silent = CHATML.replace("for message in messages", "for message in messages if message['role'] != 'system'")
    (here / "silent.jinja").write_text("{{ bos_token }}{{ bos_token }}" + silent.replace("<|im_end|>", ""))
    said = show(capsys, "model.chat_template=silent.jinja", "--rows", "1")
    assert "warning: the chat template leaves out the system message (" in said
    assert "warning: the end of the answer is not learnt" in said
    assert "warning: the text begins with two BOS tokens" in said


def test_a_template_of_the_recipe_is_used_and_named_by_its_hash(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import hashlib

    text = "{% for message in messages %}[{{ message.role }}]{{ message.content }}{{ eos_token }}{% endfor %}"
    (here / "recipes/own.jinja").write_text(text)
    out = show(capsys, "model.chat_template=recipe:own.jinja", "--row", "rows.jsonl:7")
    assert "[user]Question6?" in out.replace("¦", "").replace(" ", "").replace("«<|im_end|>»", "")
    assert hashlib.sha256(text.encode()).hexdigest() in out


def test_mistakes_are_one_message(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--row rows.jsonl:99: no prepared row stands there" in show(capsys, "--row", "rows.jsonl:99", code=2)
    assert "--job = 'supprt'" in show(capsys, "--job", "supprt", code=2)
    give(here, "{{ raise_exception('Only users may speak') }}")
    refused = show(capsys, "--row", "rows.jsonl:7", code=2)
    assert "rows.jsonl:7: the chat template refuses it: Only users may speak" in refused
    assert "no chat template" in show(capsys, "model.chat_template=rows.jsonl", code=2)
    fresh = RECIPE.partition("model: {name")[0] + "dataset: {path: rows.jsonl}\n"
    (here / "recipes/looked_at.yaml").write_text(fresh)
    assert "which has not run with these settings: run the recipe once" in show(capsys, code=1)
