"""A teacher must mean the same by each of its outputs as the student; models are stand-ins without weights."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from largeforge.errors import StageError
from largeforge.methods import distill


class Tokenizer:
    def __init__(self, *tokens):
        self.tokens = tokens

    def __len__(self):
        return len(self.tokens)

    def get_vocab(self):
        return {token: place for place, token in enumerate(self.tokens)}


class Model:
    def __init__(self, outputs):
        self.outputs = outputs
        self.config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(vocab_size=self.outputs))

    def resize_token_embeddings(self, outputs):
        self.outputs = outputs


class Teacher:
    def __init__(self, outputs, *tokens):
        self.model, self.tokenizer = Model(outputs), Tokenizer(*tokens)

    def has_tokens_of(self, tokenizer):
        return self.tokenizer.get_vocab() == tokenizer.get_vocab()


def test_rows_of_a_teacher_that_no_token_has_are_cut_off():
    teacher = Teacher(128, "a", "b")
    distill.same_outputs(teacher, Model(64), Tokenizer("a", "b"), name="hub:big")
    assert teacher.model.outputs == 64


@pytest.mark.parametrize(
    ("teacher", "rule"),
    [
        (Teacher(64, "b", "a"), "hub:big does not have the student's tokens"),
        (Teacher(64, "a", "b", "c"), "the student has 64 outputs for 2 tokens, the teacher 64 for 3"),
        (Teacher(32, "a", "b"), "hub:big has too few outputs: the student has 64"),
    ],
)
def test_a_teacher_of_other_tokens_is_refused_with_both_sizes(teacher, rule):
    with pytest.raises(StageError, match=rule):
        distill.same_outputs(teacher, Model(64), Tokenizer("a", "b"), name="hub:big")


def test_what_a_step_costs_depends_on_the_algorithm():
    gkd, own, given = (
        distill.footprint(distill.Config(algorithm=name, max_new_tokens=32)) for name in ("gkd", "on_policy", "logit")
    )
    assert (gkd.logits, own.logits, given.logits) == ("full", "fused", "full")
    assert (gkd.completion_length, own.completion_length, given.completion_length) == (32, 32, 0)
    assert (gkd.generated_share, own.generated_share) == (0.5, 1.0)
    assert gkd.full_copies > distill.footprint(distill.Config(beta=0.0)).full_copies
