"""A tokenizer is trained on what the rows say, whatever their kind."""

from __future__ import annotations

import pytest

from largeforge.stages import init

USER, GOOD, BAD = ({"role": role, "content": text} for role, text in (("user", "a"), ("assistant", "b"), ("x", "c")))


@pytest.mark.parametrize(
    ("row", "texts"),
    [
        ({"messages": [USER, GOOD]}, ["user\na", "assistant\nb"]),
        ({"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}, ["user\na", "assistant\nb", "x\nc"]),
        ({"prompt": [USER], "completion": [GOOD], "label": True}, ["user\na", "assistant\nb"]),
        ({"prompt": [USER], "answer": "5"}, ["user\na"]),
        ({"text": "words"}, ["words"]),
    ],
)
def test_texts_of_a_row(row, texts):
    assert init._texts(row) == texts
