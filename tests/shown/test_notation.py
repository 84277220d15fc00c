"""Tokens as text: what was written can be read back, and what is learnt is seen without colours."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from largeforge.shown.notation import Token, escaped, lines, pieces


def printed(tokens: list[Token]) -> list[str]:
    return [f"{line.mark} " + "".join(piece for piece, _ in pieces(line)) for line in lines(tokens)]


def test_lines_end_with_the_text_and_where_learning_begins() -> None:
    tokens = [
        Token(1, "<|im_start|>", False, True), Token(7, "user", False, False), Token(8, "\n", False, False),
        Token(9, "Hi", False, False), Token(10, " there", True, False), Token(11, "!\n", True, False),
        Token(2, "<|im_end|>", True, True),
    ]  # fmt: skip
    assert printed(tokens) == [
        "· «<|im_start|>»user¦\\n",
        "· Hi",
        "+  there¦!\\n",
        "+ «<|im_end|>»",
    ]


def test_a_text_that_looks_like_the_notation_is_told_from_it() -> None:
    assert printed([Token(1, "«a»", False, False), Token(2, "¦\\", False, False)]) == ["· \\«a\\»¦\\¦\\\\"]
    assert escaped("\x1b[31m\u202e\t") == "\\x1b[31m\\u202e\\t"


def test_no_tokens() -> None:
    assert printed([]) == []


@given(st.lists(st.tuples(st.text(min_size=1, max_size=6), st.booleans(), st.booleans()), max_size=12))
def test_every_token_can_be_read_back(given_tokens: list[tuple[str, bool, bool]]) -> None:
    tokens = [Token(number, *rest) for number, rest in enumerate(given_tokens)]
    read = []
    for line in printed(tokens):
        assert line.isprintable()
        for special, plain in re.findall(r"«((?:\\.|[^\\»])*)»|((?:\\.|[^\\¦«])+)", line[2:]):
            read.append((special or plain, line[0] == "+", bool(special)))
    assert read == [(escaped(token.text), token.learnt, token.special) for token in tokens]
