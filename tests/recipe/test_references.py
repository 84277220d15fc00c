"""`${key}` repeats a value; it cannot compute, loop or grow."""

from __future__ import annotations

import pytest

from largeforge.recipe.references import resolve


@pytest.mark.parametrize(
    ("raw", "resolved"),
    [
        ({"a": 1, "b": "${a}"}, {"a": 1, "b": 1}),
        ({"a": {"b": [1, 2]}, "c": "${a.b}"}, {"a": {"b": [1, 2]}, "c": [1, 2]}),
        ({"a": ["x"], "c": "no. ${a.0}!"}, {"a": ["x"], "c": "no. x!"}),
        ({"a": {"b": "${.c}", "c": 1}}, {"a": {"b": 1, "c": 1}}),
        ({"a": {"b": "${..c}"}, "c": 1}, {"a": {"b": 1}, "c": 1}),
        ({"a": "\\${b}"}, {"a": "${b}"}),
        ({"a": "$5"}, {"a": "$5"}),
    ],
)
def test_resolves(raw, resolved):
    assert resolve(raw) == (resolved, [])


@pytest.mark.parametrize(
    ("raw", "key", "rule"),
    [
        ({"name": 1, "b": "${nmae}"}, "b", "there is no key nmae"),
        ({"a": "${a}"}, "a", "itself refers to another key"),
        ({"a": "${b}", "b": "${a}"}, "b", "itself refers to another key"),
        ({"a": {"b": "${a}"}}, "a.b", "itself refers to another key"),
        ({"a": {"b": 1}, "c": "x ${a}"}, "c", "cannot stand within text"),
        ({"a": "${oc.env:HOME}"}, "a", "one plain reference"),
        ({"a": ["${b", 1]}, "a.0", "one plain reference"),
    ],
)
def test_refuses(raw, key, rule):
    problems = resolve(raw)[1]
    assert any(problem.key == key and rule in problem.rule for problem in problems), problems


def test_names_the_nearest_key():
    assert resolve({"dataset": {"path": 1}, "b": "${dataset.paht}"})[1][0].nearest == "dataset.path"


def test_many_copies_of_much_are_refused():
    raw = {"much": list(range(10_000)), "copies": ["${much}"] * 1000}
    assert "copy more than" in resolve(raw)[1][0].rule
