"""What is suspicious about a row is said, and nothing about one that is well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from largeforge.tokens import examine
from largeforge.tokens.engine import Tokens
from largeforge.tokens.examine import Marks

if TYPE_CHECKING:
    from largeforge.data.formats import Kind

MARKS = Marks(bos=1, ends=frozenset({2}))
WELL = Tokens([1, 5, 6, 2], [(2, 4)], prompt_length=2)
SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Weather in Bonn?"}
CALL = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "w", "arguments": {"city": "Köln"}}}]}
TOLD = {"role": "tool", "content": '{"sky": "clear"}'}
ANSWER = {"role": "assistant", "content": "Clear."}
TOOLS = [{"type": "function", "function": {"name": "w"}}]
ROW = {"messages": [SYSTEM, USER, CALL, TOLD, ANSWER], "tools": TOOLS}
WHOLE = 'w: tools. Be brief. Weather in Bonn? w {"city": "Köln"} {\\"sky\\": \\"clear\\"} Clear.'


def said(text: str, tokens: Tokens = WELL, row: dict[str, Any] = ROW, kind: Kind = "sft") -> list[str]:
    return examine.suspicions(row, kind, [tokens], [text], MARKS)


def test_a_row_that_is_well_needs_no_word() -> None:
    assert said(WHOLE) == []
    assert said(WHOLE.replace("ö", "\\u00f6")) == []  # a template may write JSON in ASCII


@pytest.mark.parametrize(
    ("missing", "warning"),
    [
        ("Be brief.", examine.NO_SYSTEM),
        ("Weather in Bonn?", examine.NO_MESSAGE),
        ("Köln", examine.NO_CALLS),
        ("clear", examine.NO_TOOL_ANSWER),
        ("Clear.", examine.NO_MESSAGE),
    ],
)
def test_what_the_template_leaves_out_is_named(missing: str, warning: str) -> None:
    assert said(WHOLE.replace(missing, "")) == [warning]


def test_tools_that_are_left_out_are_named() -> None:
    row = {"messages": [USER, ANSWER], "tools": TOOLS}
    assert said("Weather in Bonn? Clear.".replace("W", "V"), row=row)[0] == examine.NO_TOOLS


@pytest.mark.parametrize(
    ("tokens", "warning"),
    [
        (Tokens([1, 5, 6, 2]), examine.NOTHING_LEARNT),
        (Tokens([1, 5, 6, 7], [(2, 4)]), examine.NO_END),
        (Tokens([1, 2, 6, 7], [(2, 4)]), examine.NO_END),  # that of the question
        (Tokens([1, 1, 6, 2], [(2, 4)]), examine.TWO_BEGINNINGS),
        (Tokens([1, 5, 6, 2], [(2, 4)], prompt_length=2, overhang=3), examine.NOT_A_PREFIX),
    ],
)
def test_masks_that_are_wrong_are_named(tokens: Tokens, warning: str) -> None:
    assert said(WHOLE, tokens) == [warning]


def test_each_answer_of_a_preference_is_looked_at() -> None:
    row = {"prompt": [USER], "chosen": [ANSWER], "rejected": [{"role": "assistant", "content": "No idea."}]}
    texts = ["Weather in Bonn? Clear.", "Weather in Bonn?"]
    assert examine.suspicions(row, "preference", [WELL, WELL], texts, MARKS) == [examine.NO_MESSAGE]
    assert said("Weather in", Tokens([1, 5]), {"prompt": [USER], "answer": ""}, "prompt") == [examine.NO_MESSAGE]
    assert said("any text", row={"text": "any text"}, kind="text") == []


def test_a_summary_counts_rows() -> None:
    found = [[examine.NO_END, examine.NO_SYSTEM], [examine.NO_END], []]
    assert examine.summary(found) == [
        f"{examine.NO_END} (2 of 3 rows looked at)",
        f"{examine.NO_SYSTEM} (1 of 3 rows looked at)",
    ]
