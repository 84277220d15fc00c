"""Rows for calibration and judging: drawn by their hash, rendered by the model's template, recorded."""

from __future__ import annotations

import json

import pytest

from largeforge.quantizing.prompts import calibration, drawn, judged


class Tokenizer:
    """A token for each character; `<` and `>` stand around each message."""

    eos_token = "."

    def apply_chat_template(self, messages, *, tools, add_generation_prompt, tokenize, return_dict):
        text = "".join(f"<{message['content']}>" for message in messages) + ("<" if add_generation_prompt else "")
        return [ord(char) for char in text]

    def __call__(self, text):
        return {"input_ids": [ord(char) for char in text]}


def chat(number):
    return {
        "messages": [{"role": "user", "content": f"q{number}"}, {"role": "assistant", "content": f"a{number}"}],
        "source": f"rows.jsonl:{number}",
    }


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def texts(rows):
    return ["".join(map(chr, row)) for row in rows]


def test_the_same_rows_are_drawn_whatever_their_order(tmp_path):
    rows = [chat(number) for number in range(50)]
    one = drawn(write(tmp_path / "a.jsonl", rows), 8, seed=1)
    moved = [{**row, "source": "elsewhere.jsonl:1"} for row in reversed(rows)]
    other = drawn(write(tmp_path / "b.jsonl", moved), 8, seed=1)
    assert [row["messages"] for row in one] == [row["messages"] for row in other]
    assert [row["messages"] for row in drawn(tmp_path / "a.jsonl", 8, seed=2)] != [row["messages"] for row in one]
    assert len(drawn(tmp_path / "a.jsonl", 80, seed=1)) == 50


def test_rows_are_rendered_cut_and_recorded(tmp_path):
    path = write(tmp_path / "train.jsonl", [chat(1), chat(2)])
    found = calibration(path, Tokenizer(), count=5, length=6, seed=0)
    assert sorted(texts(found.rows)) == ["<q1><a", "<q2><a"]
    record = found.record()
    assert (record["rows"], record["tokens"]) == (2, 12)
    assert record["sha256"] != calibration(path, Tokenizer(), count=1, length=6, seed=0).record()["sha256"]


@pytest.mark.parametrize(
    ("row", "prompt", "answer"),
    [
        (chat(1), "<q1><", "a1>"),
        (
            {"prompt": [{"content": "q"}], "chosen": [{"content": "yes"}], "rejected": [{"content": "no"}]},
            "<q><",
            "yes>",
        ),
        ({"prompt": [{"content": "q"}], "completion": [{"content": "bad"}], "label": False}, "<q><", ""),
        ({"prompt": [{"content": "q"}], "answer": "7"}, "<q><", "7>"),
        ({"prompt": [{"content": "q"}], "answer": ""}, "<q><", ""),
        ({"text": "once"}, "o", "nce."),
    ],
)
def test_rows_of_each_kind_are_split_where_the_answer_begins(row, prompt, answer, tmp_path):
    found = judged(write(tmp_path / "heldout.jsonl", [row]), Tokenizer(), count=5, length=100, seed=0)
    assert texts([found[0].prompt, found[0].answer]) == [prompt, answer]


def test_rows_that_are_too_long_are_not_judged(tmp_path):
    path = write(tmp_path / "heldout.jsonl", [chat(1), chat(1234567)])
    assert len(judged(path, Tokenizer(), count=5, length=10, seed=0)) == 1
