"""What each reward says of answers, also of those that models write to annoy."""

from __future__ import annotations

import json
import logging

import pytest

from largeforge.errors import StageError
from largeforge.recipe import extensions, rewards
from largeforge.recipe.rewards import Batch

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}


def batch(*completions, answers=None):
    def count_tokens(text):
        return len(text) // 2

    def other_model(reference):
        raise AssertionError("no reward here asks a model")

    prompts = [[{"role": "user", "content": f"question {index}"}] for index in range(len(completions))]
    return Batch(prompts, completions, answers or [""] * len(completions), count_tokens, other_model)


def config(name, **settings):
    return extensions.load("reward", name).Config(**settings)


def scores(name, *completions, answers=None, **settings):
    return rewards.scores(name, config(name, **settings), batch(*completions, answers=answers))


def problems(name, **settings):
    return {problem.key: problem.rule for problem in extensions.load("reward", name).check(config(name, **settings))}


@pytest.mark.parametrize(
    ("settings", "completion", "answer", "score"),
    [
        ({}, " Paris\n", "Paris", 1),
        ({}, "paris", "Paris", 0),
        ({"ignore_case": True}, "PARIS", "paris", 1),
        ({"ignore_punctuation": True}, "“Paris”.", "Paris", 1),
        ({"ignore_whitespace": True}, '{"a": 1}', '{"a":1}', 1),
        ({}, "1,000", "1000", 0),
        ({"numeric": True}, "1,000", "1000.0", 1),
        ({"numeric": True}, "1e3", "1000", 1),
        ({"numeric": True}, "1001", "1000", 0),
        ({"numeric": True}, "1,0", "10", 0),
        ({"numeric": True}, "about 1000", "1000", 0),
        ({"numeric": True}, "1e999999999", "1", 0),
        ({"numeric": True}, "9" * 100_000, "1", 0),
        ({"extract": "#### (.+)"}, "3 + 4 = 8\n#### 8\nno:\n#### 7", "7", 1),
        ({"extract": "#### (.+)"}, "it is 7", "7", 0),
        ({"extract": "[0-9]+"}, "first 3, then 7.", "7", 1),
        ({"extract": "(yes)|no"}, "no", "", 0),
    ],
)
def test_exact_match(settings, completion, answer, score):
    assert scores("exact_match", completion, answers=[answer or "nothing"], **settings) == [score]


@pytest.mark.parametrize(
    ("completion", "answer", "found"),
    [
        ("-5", "5", 0),
        ("1.5", "15", 0),
        (".5", "5", 0),
        ("5.", "5", 1),
        ("(1.5)!", "1.5", 1),
        ("well-known", "wellknown", 1),
    ],
)
def test_numbers_keep_their_sign_and_point_without_punctuation(completion, answer, found):
    assert scores("exact_match", completion, answers=[answer], ignore_punctuation=True) == [found]


def test_an_answer_that_is_not_there_cannot_be_compared_with():
    with pytest.raises(StageError, match=r"a row has none: its prompt is 'question 1'"):
        scores("exact_match", "a", "b", answers=["a", ""])


@pytest.mark.parametrize(
    ("settings", "completion", "score"),
    [
        ({"pattern": "[0-9]+"}, "there are 12", 1),
        ({"pattern": "[0-9]+", "match": "full"}, "there are 12", 0),
        ({"pattern": "[0-9]+", "match": "full"}, "\n12 ", 1),
        ({"pattern": "^yes", "ignore_case": True}, "YES!", 1),
        ({"pattern": "<a>.*</a>"}, "<a>1\n2</a>", 0),
        ({"pattern": "<a>.*</a>", "dot_all": True}, "<a>1\n2</a>", 1),
    ],
)
def test_regex(settings, completion, score):
    assert scores("regex", completion, **settings) == [score]


@pytest.mark.parametrize(("name", "key"), [("regex", "pattern"), ("exact_match", "extract")])
def test_a_pattern_that_backtracks_without_end_is_no_match(name, key, caplog, monkeypatch):
    monkeypatch.setattr("largeforge.rewards._patterns.TIMEOUT_S", 0.02)
    with caplog.at_level(logging.WARNING):
        assert scores(name, "a" * 60 + "b", answers=["a"], **{key: "(a|aa)+$"}) == [0]
    assert "counts as no match" in caplog.text


@pytest.mark.parametrize("pattern", [r"\\boxed{d}", "a{e<=2}", "x{1i+2d<4}", "[[:alpha:]]"])
def test_what_another_engine_would_read_otherwise_is_refused(pattern):
    with pytest.raises(ValueError, match="mean something else"):
        config("regex", pattern=pattern)


@pytest.mark.parametrize("pattern", [r"\\boxed\{d\}", r"\d{2,3}", '{"name": ".*"}', r"a{,3}", "{answer}"])
def test_braces_that_mean_the_same_are_taken(pattern):
    assert config("regex", pattern=pattern).pattern == pattern


@pytest.mark.parametrize("number", ["1" + "0" * 400, "1e999", "-1e999"])
def test_a_number_that_no_validator_can_divide_is_not_valid(number):
    found = scores("json_schema", number, definition={"type": "number", "multipleOf": 0.01})
    assert found in ([0], [0.25])


def test_a_pattern_of_a_schema_is_bounded_in_time_too(monkeypatch):
    monkeypatch.setattr("largeforge.rewards._patterns.TIMEOUT_S", 0.01)
    schema = {"type": "string", "pattern": "^(a+)+$"}
    assert scores("json_schema", json.dumps("a" * 60 + "!"), '"aaa"', definition=schema) == [0.25, 1]
    named = {"type": "object", "patternProperties": {"^(a+)+$": {"type": "integer"}}}
    answers = [json.dumps({"a" * 60 + "!": "text"}), '{"aa": 1}', '{"aa": "text"}']
    assert scores("json_schema", *answers, definition=named) == [1, 1, 0.25]


@pytest.mark.parametrize("name", ["regex", "exact_match"])
def test_a_broken_pattern_is_refused_with_the_recipe(name):
    with pytest.raises(ValueError, match="is no regular expression: missing"):
        config(name, **{"pattern" if name == "regex" else "extract": "(a"})


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ('{"name": "Ada", "age": 36}', 1),
        ('{"name": "Ada", "age": -1}', 0.25),
        ("[]", 0.25),
        ('{"name": "Ada"', 0),
        ('{"name": "Ada"} and so on', 0),
        ("NaN", 0),
        ("", 0),
        ("[" * 100_000, 0),
        ("9" * 5000, 0),
        ('```json\n{"name": "Ada"}\n```', 0),
    ],
)
def test_json_schema(text, score):
    assert scores("json_schema", text, definition=PERSON) == [score]


def test_json_in_a_code_block_counts_where_it_may():
    text = 'Here you are:\n```json\n{"name": "Ada"}\n```\n'
    assert scores("json_schema", text, '{"name": "Ada"}', definition=PERSON, fenced=True) == [1, 1]


def test_nesting_that_no_validator_follows_ends_nothing():
    endless = {"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}}
    assert scores("json_schema", "[[]]", "[" * 900 + "]" * 900, definition=endless) in ([1, 0.25], [1, 1])


def test_a_schema_elsewhere_is_never_fetched():
    remote = {"$ref": "https://schemas.example.com/person.json"}
    assert scores("json_schema", "{}", definition=remote) == [0.25]


def test_what_is_wrong_with_a_schema_is_said_with_its_place():
    assert "is required" in problems("json_schema")["definition"]
    wrong = problems("json_schema", definition={"properties": {"age": {"type": "intger"}}})["definition"]
    assert wrong.startswith("is no JSON Schema: properties.age.type: 'intger' is not valid")


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"maximum": 4}, [1, 1, 0, 0]),
        ({"maximum": 4, "soft": 3}, [1, 1, 0.5, 0]),
        ({"minimum": 4, "soft": 3, "unit": "characters"}, [0, 1, 1, 1]),
        ({"minimum": 2, "maximum": 3, "unit": "words"}, [0, 1, 0, 0]),
    ],
)
def test_length(settings, found):
    texts = ("", "abc def", "a b c d e f g"[:12], "word " * 20)
    assert scores("length", *texts, **settings) == pytest.approx(found)


def test_a_range_that_is_none_is_refused():
    assert "rewards every answer" in problems("length")["maximum"]
    assert "less than minimum = 9" in problems("length", minimum=9, maximum=3)["maximum"]


def test_rewards_add_up_by_weight():
    chosen = {"short": config("length", maximum=2, weight=0.5), "rude": config("regex", pattern="damn", weight=-1.0)}
    answers = batch("ok", "damn", "a long and friendly one")
    found = {name: rewards.scores(name, reward, answers) for name, reward in chosen.items()}
    assert rewards.weighted(chosen, found) == [0.5, -0.5, 0]


def test_keys_of_problems_lead_to_the_reward():
    found = {problem.key for problem in rewards.check({"form": config("regex"), "size": config("length")})}
    assert found == {"rewards.form.pattern", "rewards.size.maximum"}
    assert [problem.key for problem in rewards.check({})] == ["rewards"]


def test_a_schema_survives_the_way_through_a_recipe():
    settings = config("json_schema", definition=PERSON).model_dump(mode="json")
    assert config(**json.loads(json.dumps(settings))).definition == PERSON
