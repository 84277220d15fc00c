"""Routers send nobody what it does not take: neither a conversation that is too long nor one that is to cost less."""

from __future__ import annotations

import pytest

from largeforge.gateway.limits import num_tokens
from largeforge.gateway.routing import Decision, Router, Routing
from tests.gateway.routers.asking import asked, topology


class Chooses(Router):
    def __init__(self, expert):
        self._expert = expert

    def choose(self, request):
        return Decision(self._expert, f"test:{self._expert}")


EXPERTS = {
    "small": {"max_context": 100, "budget": "low"},
    "medium": {"max_context": 1000, "budget": "medium", "fallback": ["big"]},
    "big": {"budget": "high"},
    "vectors": {"task": "embed"},
}


async def routed(chosen, request):
    experts = topology("small", "medium", "big", "vectors", experts=EXPERTS)
    route = await Routing(experts, Chooses(chosen)).route(request)
    return route.expert, route.reason


@pytest.mark.parametrize(
    ("chosen", "words", "budget", "expected"),
    [
        ("small", 10, "", ("small", "test:small")),
        ("small", 500, "", ("medium", "test:small;context:small")),
        ("small", 5000, "", ("big", "test:small;context:small")),
        ("medium", 5000, "", ("big", "test:medium;context:medium")),
        ("big", 10, "low", ("small", "test:big;budget:big")),
        ("big", 10, "MEDIUM", ("small", "test:big;budget:big")),
        ("big", 500, "medium", ("medium", "test:big;budget:big")),
        ("big", 10, "nonsense", ("big", "test:big")),
        ("big", 5000, "low", ("big", "test:big")),  # nobody takes it: the server says so
    ],
)
async def test_an_expert_that_may_takes_it(chosen, words, budget, expected):
    headers = {"x-largeforge-budget": budget} if budget else {}
    assert await routed(chosen, asked("abc " * words, headers=headers)) == expected


async def test_who_names_an_expert_gets_it():
    request = asked("abc " * 5000, model="small", headers={"x-largeforge-budget": "low"})
    assert await routed("big", request) == ("small", "model")


def test_the_answer_counts_as_long_as_it_may_be():
    assert num_tokens(asked("x" * 40, max_tokens=90)) == 100
    assert num_tokens(asked("x" * 40, max_completion_tokens=7, max_tokens=90)) == 17
    assert num_tokens(asked("x" * 40, max_tokens="many")) == 10


async def test_without_limits_nothing_is_counted(monkeypatch):
    monkeypatch.setattr("largeforge.gateway.limits.num_tokens", None)
    route = await Routing(topology("a", "b"), Chooses("b")).route(asked("hi"))
    assert (route.expert, route.reason) == ("b", "test:b")
