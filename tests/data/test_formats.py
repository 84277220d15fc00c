"""Each form becomes the one that methods train on; each bad row says what is wrong with which key."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from largeforge.data import formats
from largeforge.data.faults import RowError, show
from largeforge.data.turns import PAIR_KEYS

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
        ({"instruction": "Hi", "output": "Hello!"}, "alpaca"),
        ({"instruction": "Hi", "input": "", "output": "Hello!"}, "alpaca"),
        ({"question": "Hi", "answer": "Hello!"}, "prompt_response"),
        ({"prompt": [USER], "completion": [BOT]}, "prompt_response"),
        ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}]}, "sharegpt"),
        ({"conversations": [USER, BOT], "id": "x"}, "sharegpt"),
        ({"text": "Hi Hello!", "label": 3, "messages": [USER, BOT]}, "messages"),
    ],
)
def test_forms_for_imitation(row: dict[str, Any], form: str) -> None:
    assert formats.recognise([row], "sft") == formats.recognise([row], "prompt") == form
    assert formats.normalise(row, form, "sft") == SFT
    assert formats.normalise(row, form, "prompt") == {"prompt": [USER], "answer": "Hello!"}


def test_a_named_form_takes_an_instruction_as_a_prompt() -> None:
    assert formats.normalise({"instruction": "Hi", "output": "Hello!"}, "prompt_response", "sft") == SFT


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi", "chosen": "Hello!", "rejected": "No."},
        PAIR,
        {"prompt": "Hi", "chosen": [USER, BOT], "rejected": [USER, PAIR["rejected"][0]]},
        {"prompt": "Hi", "chosen": "Hello!", "rejected": "No.", "messages": [USER, BOT]},
        {"chosen": [USER, BOT], "rejected": [USER, PAIR["rejected"][0]]},
    ],
    ids=["strings", "messages", "answers-repeat-the-prompt", "with-messages", "whole-conversations"],
)
def test_forms_for_preference(row: dict[str, Any]) -> None:
    assert formats.recognise([row], "preference") == "preference"
    assert formats.normalise(row, "preference", "preference") == PAIR


def test_an_input_follows_its_instruction() -> None:
    row = formats.normalise({"instruction": "Add.", "input": "1 2", "output": "3"}, "alpaca", "sft")
    assert row["messages"][0]["content"] == "Add.\n\n1 2"


def test_the_form_of_most_rows_is_the_form_of_the_file() -> None:
    assert formats.recognise([{"prompt": "a", "response": "b"}, SFT, SFT], "sft") == "messages"
    assert formats.recognise([{"title": "a"}], "sft") == ""


def test_the_system_prompt_is_only_for_rows_that_have_none() -> None:
    with_system = {"messages": [SYSTEM, USER, BOT]}
    own = {"prompt": "Hi", "response": "Hello!", "system": "Be brief."}
    assert formats.normalise(SFT, "messages", "sft", system="Be brief.") == with_system
    assert formats.normalise(with_system, "messages", "sft", system="Be long.") == with_system
    assert formats.normalise(own, "prompt_response", "sft", system="X") == with_system
    assert formats.normalise(PAIR, "preference", "preference", system="Be brief.")["prompt"] == [SYSTEM, USER]


def messages_with(index: int, **changes: Any) -> dict[str, Any]:
    turns: list[Any] = [dict(USER), dict(BOT)]
    turns[index].update(changes)
    return {"messages": [{key: value for key, value in turn.items() if value is not ...} for turn in turns]}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"title": "Hi"}, "messages is missing; the row has the keys 'title'"),
        ({"text": "Hi"}, "a row of the form text in a file of the form messages"),
        ({**SFT, "label": True}, "a row of the form unpaired in a file of the form messages"),
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
        formats.normalise(row, "messages", "sft")
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"title": "a"}, "prompt is missing; the row has the keys 'title'"),
        (
            {"prompt": "a", "response": "b", "label": 0},
            "a row of the form unpaired in a file of the form prompt_response",
        ),
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
        formats.normalise(row, "prompt_response", "sft")
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
        formats.normalise({**PAIR, **changes}, "preference", "preference")
    assert str(caught.value) == reason


@pytest.mark.parametrize("label", [True, 1, "true", "True", "1"])
@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi", "completion": "Hello!"},
        {"prompt": [USER], "completion": [BOT]},
        {"prompt": "Hi", "response": "Hello!"},
        {"messages": [USER, BOT]},
    ],
)
def test_rated_answers_are_for_no_other_kind(row: dict[str, Any], label: Any) -> None:
    rated = {**row, "label": label}
    assert formats.recognise([rated], "sft") == formats.recognise([rated], "unpaired") == "unpaired"
    found = formats.normalise(rated, "unpaired", "unpaired", system="Be brief.")
    assert found == {"prompt": [SYSTEM, USER], "completion": [BOT], "label": True}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"label": None}, "a row of the form prompt_response in a file of the form unpaired"),
        ({"label": "good"}, "label = 'good': must be true or false"),
        ({"label": 2}, "label = 2: must be true or false"),
        ({"completion": ""}, "completion is empty"),
        ({"completion": [USER]}, "completion begins or ends with 'user': an answer begins and ends with assistant"),
        ({"prompt": [BOT]}, "completion has no prompt: before the answer there must be a user message"),
    ],
)
def test_bad_rated_answers(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowError) as caught:
        formats.normalise({"prompt": "Hi", "completion": "Hello!", "label": True, **changes}, "unpaired", "unpaired")
    assert (
        str(caught.value).replace("a row of the form prompt_response in a file of the form unpaired", reason) == reason
    )


@pytest.mark.parametrize(
    ("row", "form", "answer"),
    [
        ({"prompt": "Hi"}, "prompt", ""),
        ({"prompt": [USER], "answer": "5"}, "prompt", "5"),
        ({"prompt": "Hi", "answer": None, "solution": 5}, "prompt", "5"),
        ({"prompt": "Hi", "reference": "5"}, "prompt", "5"),
        ({"prompt": "Hi", "chosen": "5", "rejected": "6"}, "preference", "5"),
        ({"messages": [USER]}, "messages", ""),
        ({"question": "Hi", "answer": "5"}, "prompt_response", "5"),
    ],
)
def test_forms_for_prompts(row: dict[str, Any], form: str, answer: str) -> None:
    assert formats.recognise([row], "prompt") == form
    assert formats.normalise(row, form, "prompt") == {"prompt": [USER], "answer": answer}


def test_text() -> None:
    assert formats.recognise([{"text": "Hi", "label": 1}], "text") == "text"
    assert formats.normalise({"text": " Hi\n", "label": 1}, "text", "text", system="X") == {"text": " Hi\n"}
    with pytest.raises(RowError, match="text = ' ': only white space"):
        formats.normalise({"text": " "}, "text", "text")


@pytest.mark.parametrize("kind", get_args(formats.Kind))
def test_every_example_is_recognised_and_serves_its_kinds(kind: formats.Kind) -> None:
    for form in formats.forms_for(kind):
        row = json.loads(formats.EXAMPLES[form])
        assert form in formats.forms_of(row)
        found = formats.normalise(row, form, kind)
        assert formats.contents(found) > 0
        assert all(formats.sequences(found))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["messages", "system", "input", "chosen", "rejected", *sorted(PAIR_KEYS), "conversations", "text", "label", "tools"]
)
TURNS = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool", "User"]) | JSON, "content": st.text() | JSON},
        optional={"tool_calls": JSON, "tool_call_id": st.text() | JSON},
    ),
    max_size=4,
)


ENDS = {"sft": "messages", "preference": "preference", "unpaired": "unpaired", "prompt": "prompt", "text": "text"}
SERVED = [(form, kind) for form, kinds in formats.KINDS.items() for kind in kinds]


@given(st.dictionaries(KEYS, JSON | st.text() | TURNS, max_size=6), st.sampled_from(SERVED))
def test_any_row_is_normalised_or_refused_in_one_line(row: dict[str, Any], served: tuple[str, formats.Kind]) -> None:
    form, kind = served
    try:
        normal = formats.normalise(row, form, kind, system="Be brief.")
    except RowError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 200
        return
    json.dumps(normal, ensure_ascii=False).encode()
    assert formats.normalise(normal, ENDS[kind], kind, system="Be brief.") == normal


@given(JSON | st.text(min_size=100))
def test_shown_values_are_short_and_printable(value: Any) -> None:
    assert len(show(value)) <= 60
    assert show(value).isprintable()
