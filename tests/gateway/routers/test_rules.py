"""Rules: which requests meet which conditions, and what is refused before anything is served."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from largeforge.gateway.flags import Flags
from largeforge.gateway.routers.rules import MAX_CHARS, Config, RulesRouter, When, build, check
from largeforge.gateway.routing import Services
from tests.gateway.routers.asking import asked, topology

TOOL = {"type": "function", "function": {"name": "f"}}
IMAGE = [{"type": "text", "text": "what is this"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
EXPERTS = topology(
    "general", "a", "b", "vectors", experts={"vectors": {"task": "embed"}}, flags={"beta": {"users": {"u1": True}}}
)


def router(*rules: dict[str, Any]) -> RulesRouter:
    config = Config.model_validate({"rules": [{"expert": "a", **rule} for rule in rules]})
    assert not list(check(config, EXPERTS))
    return build(config, EXPERTS, Services())


@pytest.mark.parametrize(
    ("when", "request_", "holds"),
    [
        ({"text": r"(?i)\border\b"}, asked("My ORDER"), True),
        ({"text": r"(?i)\border\b"}, asked("reorder"), False),
        ({"text": "订单"}, asked("我的订单在哪里"), True),
        ({"text": "x"}, asked("x" + "y" * MAX_CHARS), True),
        ({"text": "x"}, asked("y" * MAX_CHARS + "x"), False),
        ({"headers": {"X-Plan": "gold|platinum"}}, asked(headers={"x-plan": "gold"}), True),
        ({"headers": {"X-Plan": "gold|platinum"}}, asked(headers={"x-plan": "golden"}), False),
        ({"headers": {"x-plan": ".*"}}, asked(), True),
        ({"headers": {"x-plan": ".+"}}, asked(), False),
        ({"tenants": ["acme", "other"]}, asked(headers={"x-largeforge-tenant": "acme"}), True),
        ({"tenants": ["acme"]}, asked(headers={"x-largeforge-tenant": "Acme"}), False),
        ({"tenants": ["acme"]}, asked(), False),
        ({"users": ["u1"]}, asked(user="u1"), True),
        ({"users": ["u1"]}, asked(user=["u1"]), False),
        ({"flag": "beta"}, asked(user="u1"), True),
        ({"flag": "beta"}, asked(user="u2"), False),
        ({"has_tools": True}, asked(tools=[TOOL]), True),
        ({"has_tools": True}, asked(tools=[]), False),
        ({"has_tools": False}, asked(), True),
        ({"has_images": True}, asked(messages=[{"role": "user", "content": IMAGE}]), True),
        ({"has_images": True}, asked("image_url"), False),
        ({"has_images": False}, asked(messages=[{"role": "user", "content": IMAGE}]), False),
        ({"stream": True}, asked(stream=True), True),
        ({"stream": False}, asked(stream=True), False),
        ({"min_chars": 5}, asked("12345"), True),
        ({"min_chars": 5}, asked("1234"), False),
        ({"max_chars": 5}, asked("12345"), True),
        ({"max_chars": 5}, asked("123456"), False),
        ({"min_chars": 2, "max_chars": 3, "text": "a"}, asked("ba"), True),
        ({"min_chars": 2, "max_chars": 3, "text": "a"}, asked("bb"), False),
        ({"min_chars": 12}, asked(messages=[{"role": "user", "content": IMAGE}]), True),
        ({}, asked(), True),
    ],
)
def test_conditions(when, request_, holds):
    assert (router({"when": when}).choose(request_) is not None) is holds


def test_the_first_rule_that_holds_decides_and_names_itself():
    rules = router(
        {"when": {"text": "x"}, "expert": "b"},
        {"name": "vip", "when": {"tenants": ["acme"]}, "expert": "a", "shadow": "b"},
        {"expert": "general"},
    )
    acme = {"x-largeforge-tenant": "acme"}
    assert rules.choose(asked("x", headers=acme)).reason == "rules:rule-1"
    decision = rules.choose(asked("y", headers=acme))
    assert (decision.expert, decision.reason, decision.shadow) == ("a", "rules:vip", "b")
    assert rules.choose(asked("y")).expert == "general"


def test_only_rules_with_a_model_pattern_see_names_that_are_no_expert():
    rules = router({"expert": "b", "when": {"tenants": ["t"]}}, {"expert": "a", "when": {"model": "gpt-4.*"}})
    assert rules.choose_named(asked(model="gpt-4o")).expert == "a"
    assert rules.choose_named(asked(model="my-gpt-4")) is None
    assert rules.choose_named(asked(model="x", headers={"x-largeforge-tenant": "t"})) is None


@pytest.mark.parametrize("pattern", ["(", r"(?=a)b", r"(a)\1", "a{2000}", r"\p{L}{100}"])
def test_what_re2_does_not_take_or_is_too_large_is_refused(pattern):
    with pytest.raises(ValidationError, match=r"regular expression|too large"):
        When(text=pattern)


def test_a_pattern_that_backtracks_elsewhere_is_answered_at_once():
    assert router({"when": {"text": r"(x+x+)+y$"}}).choose(asked("x" * MAX_CHARS)) is None


@pytest.mark.parametrize(
    ("rules", "key"),
    [
        ([{"expert": "nobody"}], "rules.0.expert"),
        ([{"expert": "a", "shadow": "nobody"}], "rules.0.shadow"),
        ([{"expert": "vectors"}], "rules.0.expert"),
        ([{"expert": "a", "when": {"flag": "alpha"}}], "rules.0.when.flag"),
        ([{"expert": "a", "when": {"min_chars": 9, "max_chars": 8}}], "rules.0.when.max_chars"),
        ([{"expert": "a"}, {"expert": "b"}], "rules.0.when"),
        ([{"expert": "a", "when": {"text": ".{400}" + str(i)}} for i in range(12)], "rules"),
    ],
)
def test_rules_that_make_no_sense_beside_a_topology(rules, key):
    problems = list(check(Config.model_validate({"rules": rules}), EXPERTS))
    assert [problem.key for problem in problems] == [key]


_WHEN = st.fixed_dictionaries(
    {},
    optional={
        "text": st.sampled_from(["a", "b", "ab"]), "tenants": st.lists(st.sampled_from(["s", "t"]), max_size=2),
        "has_tools": st.booleans(), "stream": st.booleans(),
        "min_chars": st.integers(0, 4), "max_chars": st.integers(0, 4),
    },
)  # fmt: skip


@settings(max_examples=60)
@given(st.lists(_WHEN, max_size=5), st.text("ab", max_size=4), st.sampled_from(["s", "t", ""]), st.booleans())
def test_same_as_asking_one_rule_after_the_other(whens, text, tenant, tools):
    request = asked(text, headers={"x-largeforge-tenant": tenant}, tools=[TOOL] if tools else [])

    def holds(when: dict[str, Any]) -> bool:
        return (
            when.get("text", "") in text
            and (not when.get("tenants") or tenant in when["tenants"])
            and when.get("has_tools", tools) == tools
            and when.get("stream", False) is False
            and len(text) >= when.get("min_chars", 0)
            and (not when.get("max_chars") or len(text) <= when["max_chars"])
        )

    first = next((f"rules:rule-{place}" for place, when in enumerate(whens, 1) if holds(when)), None)
    config = Config.model_validate({"rules": [{"expert": "a", "when": when} for when in whens]})
    decision = RulesRouter(config.rules, Flags(EXPERTS, lambda: 0.0)).choose(request)
    assert (decision.reason if decision else None) == first
