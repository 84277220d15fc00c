"""Rows of a file as requests: what each asks, without its answer."""

from __future__ import annotations

import json

import pytest

from largeforge.errors import DataError
from largeforge.loadtest import prompts

USER = {"role": "user", "content": "Where is my order?"}
ANSWER = {"role": "assistant", "content": "On its way."}


def rows(tmp_path, *given):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    return str(path)


def test_answers_are_left_out_and_tools_are_kept(tmp_path):
    tools = [{"type": "function", "function": {"name": "look_up"}}]
    given = [
        {"messages": [USER, ANSWER, USER, ANSWER]},
        {"prompt": "Hi"},
        {"prompt": [USER], "tools": tools, "answer": "x"},
    ]
    assert prompts.requests(rows(tmp_path, *given)) == [
        {"messages": [USER, ANSWER, USER]},
        {"messages": [{"role": "user", "content": "Hi"}]},
        {"messages": [USER], "tools": tools},
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "x"}, "a row has `messages` or `prompt`"),
        ({"messages": [ANSWER]}, "no question comes before"),
        ({"messages": [{"role": "usr", "content": "x"}]}, r"messages\[0\]"),
        ({"prompt": "  "}, "only white space"),
    ],
)
def test_a_row_that_asks_nothing_is_named_by_its_line(tmp_path, row, message):
    with pytest.raises(DataError, match=rf"rows\.jsonl:2: .*{message}"):
        prompts.requests(rows(tmp_path, {"prompt": "Hi"}, row))


def test_all_rows_come_before_any_comes_again(tmp_path):
    given = [{"messages": [{"role": "user", "content": str(place)}]} for place in range(5)]
    path = tmp_path / "requests.jsonl"
    prompts.write(given, path, count=12, seed=1)
    asked = [int(json.loads(line)["messages"][0]["content"]) for line in path.read_text().splitlines()]
    assert sorted(asked[:5]) == sorted(asked[5:10]) == [0, 1, 2, 3, 4]
    assert len(asked) == 12
    prompts.write(given, path, count=12, seed=2)
    other = [int(json.loads(line)["messages"][0]["content"]) for line in path.read_text().splitlines()]
    assert other != asked
