"""Each form becomes the one that methods train on; each bad row says what is wrong with which key."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from largeforge.data import formats
from largeforge.data.messages import RowError, show

USER = {"role": "user", "content": "Hi"}
BOT = {"role": "assistant", "content": "Hello!"}
SYSTEM = {"role": "system", "content": "Be brief."}
SFT = {"messages": [USER, BOT]}
PAIR = {"prompt": [USER], "chosen": [BOT], "rejected": [{"role": "assistant", "content": "No."}]}


@pytest.mark.parametrize(
    ("row", "form"),
    [
        (SFT, "messages"),
        ({"prompt": "Hi", "prompt_id": 1, "messages": [USER, BOT]}, "messages"),
        ({"messages": None, "prompt": "Hi", "response": "Hello!"}, "prompt_response"),
        ({"prompt": "Hi", "response": "Hello!"}, "prompt_response"),
        ({"prompt": "Hi", "completion": "Hello!"}, "prompt_response"),
        ({"instruction": "Hi", "output": "Hello!"}, "prompt_response"),
        ({"instruction": "Hi", "input": "", "output": "Hello!"}, "prompt_response"),
        ({"question": "Hi", "answer": "Hello!"}, "prompt_response"),
        ({"prompt": [USER], "completion": [BOT]}, "prompt_response"),
    ],
)
def test_forms_for_imitation(row: dict[str, Any], form: str) -> None:
    assert formats.recognise([row], "sft") == form
    assert formats.normalise(row, form) == SFT


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi", "chosen": "Hello!", "rejected": "No."},
        PAIR,
        {"prompt": "Hi", "chosen": [USER, BOT], "rejected": [USER, PAIR["rejected"][0]]},
        {"prompt": "Hi", "chosen": "Hello!", "rejected": "No.", "messages": [USER, BOT]},
    ],
    ids=["strings", "messages", "answers-repeat-the-prompt", "with-messages"],
)
def test_forms_for_preference(row: dict[str, Any]) -> None:
    assert formats.recognise([row], "preference") == "preference"
    assert formats.normalise(row, "preference") == PAIR


def test_an_input_follows_its_instruction() -> None:
    row = formats.normalise({"instruction": "Add.", "input": "1 2", "output": "3"}, "prompt_response")
    assert row["messages"][0]["content"] == "Add.\n\n1 2"


def test_the_form_of_most_rows_is_the_form_of_the_file() -> None:
    assert formats.recognise([{"prompt": "a", "response": "b"}, SFT, SFT], "sft") == "messages"
    assert formats.recognise([{"text": "a"}], "sft") == ""


def test_the_system_prompt_is_only_for_rows_that_have_none() -> None:
    with_system = {"messages": [SYSTEM, USER, BOT]}
    assert formats.normalise(SFT, "messages", "Be brief.") == with_system
    assert formats.normalise(with_system, "messages", "Be long.") == with_system
    assert formats.normalise({"prompt": "Hi", "response": "Hello!", "system": "Be brief."}, "prompt_response", "X") == (
        with_system
    )
    assert formats.normalise(PAIR, "preference", "Be brief.")["prompt"] == [SYSTEM, USER]


def messages_with(index: int, **changes: Any) -> dict[str, Any]:
    turns: list[Any] = [dict(USER), dict(BOT)]
    turns[index].update(changes)
    return {"messages": [{key: value for key, value in turn.items() if value is not ...} for turn in turns]}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "Hi"}, "messages is missing; the row has the keys 'text'"),
        ({}, "messages is missing; the row has no keys"),
        ({"messages": None}, "messages is null; the row has the keys 'messages'"),
        ({"messages": "Hi"}, "messages = 'Hi': must be a list of messages"),
        ({"messages": []}, "messages is an empty list"),
        ({"messages": ["Hi"]}, "messages[0] = 'Hi': must be an object with role and content"),
        (messages_with(1, role=...), "messages[1].role is missing"),
        (
            {"messages": [{"from": "human", "value": "Hi"}]},
            "messages[0].role is missing; from and value are role and content here",
        ),
        (
            messages_with(1, role="asistant"),
            "messages[1].role = 'asistant': must be one of system, user, assistant, tool. Did you mean 'assistant'?",
        ),
        (messages_with(0, role=7), "messages[0].role = 7: must be one of system, user, assistant, tool."),
        (messages_with(0, role=[]), "messages[0].role = []: must be one of system, user, assistant, tool."),
        (messages_with(0, content=...), "messages[0].content is missing"),
        (messages_with(0, content=None), "messages[0].content = null: must be a string"),
        (messages_with(0, content=["Hi"]), "messages[0].content = ['Hi']: must be a string"),
        (messages_with(0, content=""), "messages[0].content is empty"),
        (messages_with(0, content=" \n\t"), "messages[0].content = ' \\n\\t': only white space"),
        (
            messages_with(0, content="a\ud83d"),
            "messages[0].content has half of a surrogate pair, \\ud83d, at character 2",
        ),
        (
            messages_with(1, tool_calls=[{"id": 1}]),
            "messages[1].tool_calls = [{'id': 1}]: tool calls are not supported",
        ),
        ({"messages": [BOT, USER]}, "messages ends with 'user': must end with assistant, the answer to learn"),
        ({"messages": [SYSTEM, BOT]}, "messages has no user message"),
        ({"messages": [SYSTEM, SYSTEM, BOT]}, "messages[1].role = 'system': a second system message"),
        ({"messages": [USER, SYSTEM, BOT]}, "messages[1].role = 'system': system must be the first message"),
        ({"prompt": "Hi", "response": "a"}, "a row of the form prompt_response in a file of the form messages"),
        (PAIR, "a row of the form preference in a file of the form messages"),
    ],
)
def test_bad_messages(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowError) as caught:
        formats.normalise(row, "messages")
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "a"}, "prompt is missing; the row has the keys 'text'"),
        ({"prompt": "a"}, "response is missing; the row has the keys 'prompt'"),
        ({"answer": "a", "id": 1}, "question is missing; the row has the keys 'answer, id'"),
        ({"prompt": "a", "response": None}, "response is null; the row has the keys 'prompt, response'"),
        ({"prompt": 3, "response": "b"}, "prompt = 3: must be a string"),
        ({"prompt": "a", "response": "  "}, "response = '  ': only white space"),
        ({"instruction": "a", "input": 3, "output": "b"}, "input = 3: must be a string"),
        ({"prompt": [SYSTEM, USER], "response": "b", "system": "s"}, "system: the prompt has a system message already"),
        (SFT, "a row of the form messages in a file of the form prompt_response"),
    ],
)
def test_bad_prompt_and_response(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowError) as caught:
        formats.normalise(row, "prompt_response")
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"prompt": None}, "prompt is null; the row has the keys 'prompt, chosen, rejected'"),
        ({"chosen": 3}, "chosen = 3: must be a string"),
        ({"rejected": ""}, "rejected is empty"),
        ({"rejected": [BOT]}, "chosen equals rejected: 'Hello!'"),
        ({"prompt": [USER, BOT]}, "prompt[1].role = 'assistant': the prompt must end with user"),
        ({"chosen": [BOT, USER]}, "chosen ends with 'user': must end with assistant"),
        (
            {"chosen": [{"role": "user", "content": "Other"}, BOT]},
            "chosen[0].role = 'user': must be assistant, or chosen repeats the whole prompt",
        ),
    ],
)
def test_bad_preferences(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowError) as caught:
        formats.normalise({**PAIR, **changes}, "preference")
    assert str(caught.value) == reason


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["messages", "system", "input", "chosen", "rejected", *(key for pair in formats.PAIRS for key in pair)]
)
TURNS = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool", "User"]) | JSON, "content": st.text() | JSON}
    ),
    max_size=4,
)


@given(st.dictionaries(KEYS, JSON | st.text() | TURNS, max_size=6), st.sampled_from(sorted(formats.KINDS)))
def test_any_row_is_normalised_or_refused_in_one_line(row: dict[str, Any], form: str) -> None:
    try:
        normal = formats.normalise(row, form, "Be brief.")
    except RowError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 200
        return
    json.dumps(normal, ensure_ascii=False).encode()
    again = formats.normalise(normal, "messages" if "messages" in normal else "preference", "Be brief.")
    assert again == normal


@given(JSON | st.text(min_size=100))
def test_shown_values_are_short_and_printable(value: Any) -> None:
    assert len(show(value)) <= 60
    assert show(value).isprintable()
