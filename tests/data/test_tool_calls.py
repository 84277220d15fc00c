"""Tool calls keep their arguments to the letter, however the row writes them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from largeforge.data import formats
from largeforge.data.faults import RowError, show

ARGUMENTS = {"zone": "b", "at": [1, 2.5, None, {"y": 1, "x": ""}], "deep": {"b": None, "a": "é"}}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
ASKED = {"role": "user", "content": "Rain?"}
CALLS = {"role": "assistant", "content": "", "tool_calls": [CALL]}
ANSWER = {"role": "tool", "content": '{"mm": 3}', "tool_call_id": "c1", "name": "weather"}
SAID = {"role": "assistant", "content": "Yes."}
ROW = {"messages": [ASKED, CALLS, ANSWER, SAID], "tools": [TOOL]}


def sft(row: dict[str, Any], form: str = "messages") -> dict[str, Any]:
    return formats.normalise(row, form, "sft")


def refusal(row: dict[str, Any], form: str = "messages") -> str:
    with pytest.raises(RowError) as caught:
        sft(row, form)
    return str(caught.value)


def with_call(call: Any) -> dict[str, Any]:
    return {"messages": [ASKED, {"role": "assistant", "content": None, "tool_calls": call}]}


def test_a_row_in_its_final_form_stays_as_it_is() -> None:
    assert json.dumps(sft(ROW)) == json.dumps(ROW)


@pytest.mark.parametrize(
    "call",
    [
        [CALL],
        [{**CALL, "function": {"name": "weather", "arguments": json.dumps(ARGUMENTS)}}],
        [{"id": "c1", "name": "weather", "arguments": ARGUMENTS}],
        {"id": "c1", "function": "weather", "arguments": json.dumps(ARGUMENTS)},
    ],
    ids=["object", "json-text", "flat", "alone"],
)
def test_ways_to_write_a_call(call: Any) -> None:
    found = sft(with_call(call))["messages"][1]
    assert json.dumps(found) == json.dumps(CALLS)


def test_a_call_of_older_data() -> None:
    old = {"role": "assistant", "content": None, "function_call": {"name": "now", "arguments": "{}"}}
    found = sft({"messages": [ASKED, old, {"role": "function", "name": "now", "content": "noon"}, SAID]})["messages"]
    assert found[1]["tool_calls"] == [{"type": "function", "function": {"name": "now", "arguments": {}}}]
    assert found[2] == {"role": "tool", "content": "noon", "name": "now"}


def test_sharegpt_with_tools() -> None:
    function = {"name": "weather", "arguments": ARGUMENTS}
    row = {
        "system": "Be brief.",
        "tools": json.dumps([TOOL["function"]]),
        "conversations": [
            {"from": "human", "value": "Rain?"},
            {"from": "function_call", "value": json.dumps(function)},
            {"from": "observation", "value": '{"mm": 3}'},
            {"from": "gpt", "value": "Yes."},
        ],
    }
    found = sft(row, "sharegpt")
    assert found["tools"] == [TOOL]
    assert [turn["role"] for turn in found["messages"]] == ["system", "user", "assistant", "tool", "assistant"]
    assert json.dumps(found["messages"][2]["tool_calls"][0]["function"]) == json.dumps(function)


def test_the_answer_to_a_prompt_may_be_a_call() -> None:
    found = formats.normalise(with_call([CALL]), "messages", "prompt")
    assert json.loads(found["answer"]) == [{"name": "weather", "arguments": ARGUMENTS}]


def test_preferences_and_ratings_keep_calls_and_tools() -> None:
    row = {"prompt": [ASKED], "chosen": [CALLS], "rejected": [SAID], "tools": [TOOL]}
    assert formats.normalise(row, "preference", "preference") == row
    row = {"prompt": [ASKED], "completion": [CALLS, ANSWER, SAID], "label": False, "tools": [TOOL]}
    assert formats.normalise(row, "unpaired", "unpaired") == row


def test_no_tools_are_no_key() -> None:
    assert "tools" not in sft({**ROW, "tools": []})
    assert "tools" not in sft({**ROW, "tools": "[]"})
    assert "tools" not in sft({**ROW, "tools": None})


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ([{"id": "1"}], "messages[1].tool_calls[0].name = null: must be the name of a tool"),
        ([{"name": "f", "arguments": "{"}], "messages[1].tool_calls[0].arguments = '{': not JSON: Expecting"),
        ([{"name": "f", "arguments": "[1]"}], "messages[1].tool_calls[0].arguments = '[1]': must be an object"),
        ([{"name": "f", "id": 1}], "messages[1].tool_calls[0].id = 1: must be a string"),
        ([{"name": "f", "arguments": {"a": float("nan")}}], "messages[1].tool_calls[0] has the number nan"),
        ([{"name": "f", "arguments": {"a": "\ud83d"}}], "messages[1].tool_calls[0] has half of a surrogate pair"),
        ([7], "messages[1].tool_calls[0] = 7: must be an object with a function"),
        ([{"type": "retrieval"}], "messages[1].tool_calls[0] = {'type': 'retrieval'}: must be an object"),
    ],
)
def test_bad_calls(call: Any, reason: str) -> None:
    assert refusal(with_call(call)).startswith(reason)


def test_who_calls_and_what_is_answered() -> None:
    assert refusal({"messages": [{**ASKED, "tool_calls": [CALL]}, SAID]}) == (
        f"messages[0].tool_calls = {show([CALL])}: only the assistant calls tools"
    )
    assert refusal({"messages": [ASKED, CALLS, {**ANSWER, "tool_call_id": "c2"}, SAID]}) == (
        "messages[2].tool_call_id = 'c2': no earlier call has this id"
    )


@pytest.mark.parametrize(
    ("tools", "reason"),
    [
        ("[", "tools = '[': not JSON: Expecting value"),
        ({"a": 1}, "tools = {'a': 1}: must be a list of tools"),
        ([3], "tools[0] = 3: must be an object that describes a tool"),
        ([{"type": "function", "function": {}}], "tools[0] = {'function': {}, 'type': 'function'}: a tool has"),
    ],
)
def test_bad_tools(tools: Any, reason: str) -> None:
    assert refusal({**ROW, "tools": tools}).startswith(reason)


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ("Hi", "conversations = 'Hi': must be a list of turns"),
        (["Hi"], "conversations[0] = 'Hi': must be an object with from and value"),
        (
            [{"from": "humna", "value": "Hi"}],
            "must be human, gpt, system, tool or function_call. Did you mean 'human'?",
        ),
        ([{"from": "human", "value": "Hi"}], "conversations ends with 'user': must end with assistant"),
        ([{"from": "human", "value": None}], "conversations[0].content = null: must be a string"),
        ([{"from": "function_call", "value": "now()"}], "conversations[0].value = 'now()': not JSON"),
    ],
)
def test_bad_conversations(turns: Any, reason: str) -> None:
    assert reason in refusal({"conversations": turns}, "sharegpt")
