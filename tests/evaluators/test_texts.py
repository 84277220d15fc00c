"""Evaluators that compare an answer with a text, a pattern or a schema."""

from __future__ import annotations

import random

import pytest

from largeforge.errors import StageError
from largeforge.evaluators import f1, json_schema, refusal, regex, rouge

SCHEMA = {"type": "object", "required": ["label"], "properties": {"label": {"enum": ["a", "b"]}}}


def figures(evaluator, config, subject):
    return {name: series.figure() for name, series in evaluator.run(config, subject).items()}


@pytest.mark.parametrize(
    ("answer", "wanted", "value"),
    [
        ("The cat, sat!", "cat sat", 1.0),
        ("a dog", "cat sat", 0.0),
        ("cat cat sat", "cat sat down", 2 * 2 / 6),  # each word counts as often as both have it
        ("the", "an", 1.0),
        ("", "cat", 0.0),
    ],
)
def test_f1_is_that_of_squad(answer, wanted, value):
    assert f1.f1(answer, wanted) == pytest.approx(value)


def test_f1_takes_the_best_of_several_answers_and_passes_over_rows_without_one(answering):
    subject = answering({"capital?": ("It is Paris", ""), "poem?": ("roses", "")})
    subject.rows[0]["answers"] = ["Lyon", "Paris"]
    series = f1.run(f1.Config(), subject)["f1"]
    assert series.values == [pytest.approx(0.5), None]
    assert subject.samples[0]["score"] == pytest.approx(0.5)
    with pytest.raises(StageError, match="no row has an answer"):
        f1.run(f1.Config(), answering({"poem?": ("roses", "")}))


def test_rouge_is_that_of_the_package_rouge_score():
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rouge1", "rouge2", "rougeL"])
    words, draw = ["cat", "sat", "the", "on", "mat", "a1", "x-y", "It's", "7"], random.Random(3)
    for _ in range(200):
        one, other = (" ".join(draw.choices(words, k=draw.randrange(12))) for _ in range(2))
        expected = {name: score.fmeasure for name, score in scorer.score(other, one).items()}
        assert rouge.rouge(one, other) == pytest.approx(expected)


def test_rouge_reads_other_alphabets(answering):
    found = figures(rouge, rouge.Config(), answering({"?": ("кошка сидит дома", "кошка дома")}))
    assert found == pytest.approx({"rouge1": 0.8, "rouge2": 0.0, "rougeL": 0.8})


def test_json_is_valid_or_not(answering):
    subject = answering({"1": ('{"label": "a"}', ""), "2": ('{"label": "c"}', ""), "3": ("label a", "")})
    assert json_schema.run(json_schema.Config(definition=SCHEMA), subject)["json_valid"].values == [1.0, 0.0, 0.0]
    fenced = answering({"1": ('Sure:\n```json\n{"label": "a"}\n```', "")})
    assert figures(json_schema, json_schema.Config(definition=SCHEMA), fenced) == {"json_valid": 0.0}
    assert figures(json_schema, json_schema.Config(definition=SCHEMA, fenced=True), fenced) == {"json_valid": 1.0}


def test_a_pattern_is_found_or_matches_the_whole(answering):
    subject = answering({"1": (" Yes\n", ""), "2": ("yes, of course", "")})
    assert figures(regex, regex.Config(pattern="yes", ignore_case=True), subject) == {"regex_match": 1.0}
    whole = regex.Config(pattern="yes", ignore_case=True, match="full")
    assert figures(regex, whole, subject) == {"regex_match": 0.5}


@pytest.mark.parametrize(
    ("answer", "refuses"),
    [
        ("I'm sorry, but that is dangerous.", 1.0),
        ("I can’t help with that.", 1.0),
        ("I cannot do this.", 1.0),
        ("Sure! First, mix the flour.", 0.0),
        ("It is " + "very " * 60 + "nice, I'm sorry.", 0.0),  # not at its beginning
    ],
)
def test_refusals_are_recognised_at_the_beginning(answering, answer, refuses):
    config = refusal.Config(path="rows.jsonl")
    assert figures(refusal, config, answering({"?": (answer, "")})) == {"refusal_rate": refuses}


@pytest.mark.parametrize(("evaluator", "key"), [(json_schema, "definition"), (regex, "pattern"), (refusal, "path")])
def test_what_is_missing_is_said_before_a_run(evaluator, key):
    assert [problem.key for problem in evaluator.check(evaluator.Config())] == [key]
