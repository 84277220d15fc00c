"""The keyword router on its own: which texts match which keywords."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from largeforge.gateway.request import parse
from largeforge.gateway.routers.keyword import SIDE_CHARS, Config, KeywordRouter, build
from largeforge.gateway.routing import Services
from largeforge.recipe.schema import Topology


def choose(keywords: dict[str, list[str]], text: str) -> tuple[str, str]:
    request = parse(orjson.dumps({"prompt": text}), "completion")
    decision = KeywordRouter(keywords).choose(request)
    return (decision.expert, decision.reason) if decision else ("general", "default")


@pytest.mark.parametrize(
    ("keyword", "text", "is_match"),
    [
        ("order", "my order", True),
        ("order", "My ORDER, please", True),
        ("Order", "(order)", True),
        ("order", "order's", True),
        ("order", "orders", False),
        ("order", "border", False),
        ("order", "order_id", False),
        ("order", "order2", False),
        ("c++", "I like C++17", True),
        ("return policy", "the Return Policy?", True),
        ("return policy", "return the policy", False),
        ("h264", "an h264 stream", True),
        ("a.c", "abc", False),
        ("straße", "STRASSE", True),
        ("cafe\u0301", "Le CAFÉ", True),
        ("été", "l'été", True),
        ("订单", "我的订单在哪里", True),
        ("कीमत", "क्या कीमत है", True),
        ("", "anything", False),
        ("  ", "any thing", False),
        ("(", "f(x)", True),
    ],
)
def test_what_matches(keyword, text, is_match):
    assert (choose({"general": [], "expert": [keyword]}, text)[0] == "expert") is is_match


def test_most_distinct_keywords_win():
    keywords = {"a": ["order"], "b": ["refund", "money"]}
    assert choose(keywords, "order order order: refund my money") == ("b", "keyword:refund")


def test_ties_go_to_the_first_in_the_topology():
    keywords = {"z": ["order"], "a": ["refund"]}
    assert choose(keywords, "refund the order") == ("z", "keyword:order")


def test_a_keyword_may_belong_to_several():
    assert choose({"a": ["x1"], "b": ["x1", "y1"]}, "y1 x1") == ("b", "keyword:x1")


def test_overlapping_and_nested_fragments_all_count():
    keywords = {"a": ["#42x"], "b": ["#4", "#42", "2x#"]}
    assert choose(keywords, "see #42x#") == ("b", "keyword:#4")


def test_no_match_is_no_opinion():
    assert choose({"a": ["order"]}, "hello") == ("general", "default")
    assert choose({"a": []}, "hello") == ("general", "default")


def test_of_a_long_message_the_start_and_the_end_count():
    around = " " * SIDE_CHARS
    assert choose({"a": ["order"]}, f"order{around}{around}")[0] == "a"
    assert choose({"a": ["order"]}, f"{around}{around}order")[0] == "a"
    assert choose({"a": ["order"]}, f"{around} order {around}")[0] == "general"


def test_long_and_many_keywords_compile():
    keywords = {f"e{index}": ["#" * (index + 1), f"-{index}-" * 400] for index in range(200)}
    assert choose(keywords, "###")[0] == "e0"
    assert choose(keywords, "-7-" * 400)[0] == "e7"


@given(st.lists(st.text("ab1#", max_size=4), max_size=12), st.text("ab1# ", max_size=20))
def test_same_as_the_plain_definition(keywords, text):
    words = "".join(c if c.isalnum() else " " for c in text).split()
    wanted = {k for k in keywords if k.strip() and (k in words if k.isalpha() else k.strip() in text)}
    expert, _ = choose({f"e{index}": [keyword] for index, keyword in enumerate(keywords)}, text)
    first = next((f"e{index}" for index, keyword in enumerate(keywords) if keyword in wanted), "general")
    assert expert == first


def test_build_reads_the_topology():
    topology = Topology.model_validate(
        {"experts": {"general": {"model": "x"}, "a": {"model": "y", "keywords": ["order"]}}, "fallback": "general"}
    )
    request = parse(b'{"prompt": "order"}', "completion")
    assert build(Config(), topology, Services()).choose(request).expert == "a"
