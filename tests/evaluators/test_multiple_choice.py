"""The option that a model finds the likeliest, as it is and by its length."""

from __future__ import annotations

import pytest

from largeforge.errors import StageError
from largeforge.evaluators import multiple_choice
from largeforge.evaluators.multiple_choice import Config
from tests.evaluators.conftest import Answering, row

LIKES = {"Paris": -3.0, "Rome": -2.0, "a very long option": -4.0, "no": -1.0}


class Liking(Answering):
    """A subject that finds each option as likely as is written down."""

    def log_probabilities(self, batch):
        return [LIKES["".join(map(chr, ids[before:]))] for ids, before in batch]


def test_acc_takes_the_likeliest_option_and_acc_norm_the_likeliest_by_length():
    rows = [
        row("capital of France?", 0, choices=["Paris", "Rome"]),  # -3 and -2; by character -.6 and -.5
        row("which?", "A", choices=["a very long option", "no"]),  # -4 and -1; by character -.22 and -.5
        row("capital of Italy?", "Rome", choices=["Paris", "Rome"]),
    ]
    subject = Liking(rows, {})
    found = multiple_choice.run(Config(path="x", batch_size=3), subject)
    assert found["acc"].values == [0.0, 0.0, 1.0]
    assert found["acc_norm"].values == [0.0, 1.0, 1.0]
    assert subject.samples[0] == {"row": 0, "metric": "acc", "expected": "Paris", "answer": "Rome", "score": 0.0}


@pytest.mark.parametrize(
    ("columns", "answer", "rule"),
    [({}, 0, "list of at least two options"), ({"choices": ["a", "b"]}, 2, "its number from 0, or its letter"),
     ({"choices": ["a", "b"]}, "c", "its number from 0"), ({"choices": ["a", "b"]}, "", "and is ''")],
)  # fmt: skip
def test_a_malformed_question_is_named(columns, answer, rule):
    with pytest.raises(StageError, match=rf"rows\.jsonl:1: .*{rule}"):
        multiple_choice.run(Config(path="x"), Liking([row("?", answer, **columns)], {}))
