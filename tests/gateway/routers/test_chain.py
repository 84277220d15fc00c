"""Chains: who decides, what is not asked any more, and what reasons say."""

from __future__ import annotations

import json

import pytest

from largeforge.gateway.routers.chain import ChainRouter, Config, check
from largeforge.gateway.routing import Abstained, Decision, Router, Routing, routing_of
from largeforge.recipe import extensions
from tests.gateway.routers.asking import Counted, asked, topology

EXPERTS = topology("general", "a", "b", experts={"a": {"keywords": ["order"]}, "b": {"keywords": ["#42"]}})


class Says(Router):
    """A router with one opinion, given at once or later, that knows how often it was asked."""

    def __init__(self, opinion, *, later=False):
        self.opinion, self.later, self.asked = opinion, later, 0

    def choose(self, request):
        self.asked += 1
        return self._wait() if self.later else self.opinion

    async def _wait(self):
        return self.opinion

    def scores(self, request):
        return {"a": 0.25}


def chain(*members):
    return Routing(
        EXPERTS, ChainRouter([(f"r{i}", router, threshold) for i, (router, threshold) in enumerate(members)])
    )


@pytest.mark.parametrize("later", [False, True])
async def test_the_first_that_is_sure_enough_decides_and_no_other_is_asked(later):
    unsure, sure, last = (
        Says(Decision("a", "x:0.4", 0.4), later=later), Says(Decision("b", "y:0.8", 0.8), later=later), Says(None),
    )  # fmt: skip
    route = await chain((Says(None), 0.0), (unsure, 0.5), (sure, 0.8), (last, 0.0)).route(asked("x"))
    assert (route.expert, route.reason, route.score) == ("b", "y:0.8", 0.8)
    assert (unsure.asked, sure.asked, last.asked) == (1, 1, 0)


@pytest.mark.parametrize("later", [False, True])
async def test_failures_are_said_whoever_decides(later):
    failed = Says(Abstained("failed:embedding:timeout"), later=later)
    route = await chain((failed, 0), (Says(Decision("a", "x:1"), later=later), 0)).route(asked("x"))
    assert route.reason == "x:1;failed:embedding:timeout"
    nobody = await chain((failed, 0), (failed, 0), (Says(None, later=later), 0)).route(asked("x"))
    assert nobody.expert == "general"
    assert nobody.reason == "default;failed:embedding:timeout;failed:embedding:timeout"


async def test_reasons_are_bounded():
    route = await chain(*[(Says(Abstained("failed:embedding:timeout")), 0)] * 50).route(asked("x"))
    assert len(route.reason) <= 160


async def test_explained_with_what_each_router_says():
    routing = chain((Says(Decision("a", "x:0.4", 0.4), later=True), 0.5), (Says(None), 0), (Says(Abstained("why")), 0))
    said = await routing.explain(asked("x"))
    assert said["expert"] == "general"
    assert [(one["router"], one["expert"], one["reason"], one["decides"]) for one in said["routers"]] == [
        ("r0", "a", "x:0.4", False), ("r1", "", "", False), ("r2", "", "why", False),
    ]  # fmt: skip
    assert said["routers"][0]["scores"] == {"a": 0.25}


async def test_from_a_recipe_with_a_rule_a_keyword_and_an_order():
    config = Config.model_validate(
        {
            "routers": {
                "words": {"name": "keyword"},
                "first": {"name": "rules", "rules": [{"expert": "b", "when": {"tenants": ["t"]}}]},
            },
            "order": ["first", "words"],
        }
    )
    assert not list(check(config, EXPERTS))
    routing = routing_of(config, EXPERTS, Counted().services)
    await routing.start()
    assert (await routing.route(asked("order"))).reason == "keyword:order"
    assert (await routing.route(asked("order", headers={"x-largeforge-tenant": "t"}))).reason == "rules:rule-1"
    assert (await routing.route(asked("hi"))).reason == "default"
    unknown = await routing.route(asked("order", model="gpt-9"))
    assert (unknown.expert, unknown.fallback) == ("general", "unknown-model")
    await routing.stop()


def test_the_order_in_which_routers_stand_outlives_a_file_that_sorts_its_keys():
    config = Config.model_validate({"routers": {"z": {"name": "keyword"}, "a": {"name": "weighted"}}})
    again = Config.model_validate_json(json.dumps(config.model_dump(mode="json"), sort_keys=True))
    router = extensions.load("router", "chain").build(again, EXPERTS, Counted().services)
    assert [name for name, _, _ in router.members] == ["z", "a"]


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({}, "routers"),
        ({"routers": {"k": {"name": "keyword"}}, "thresholds": {"kk": 0.5}}, "thresholds"),
        ({"routers": {"k": {"name": "keyword"}}, "order": ["k", "j"]}, "order"),
        ({"routers": {"k": {"name": "keyword"}, "j": {"name": "keyword"}}, "order": ["k"]}, "order"),
        ({"routers": {"r": {"name": "rules", "rules": [{"expert": "x"}]}}}, "routers.r.rules.0.expert"),
    ],
)
def test_chains_that_make_no_sense(given, key):
    assert [problem.key for problem in check(Config.model_validate(given), EXPERTS)] == [key]


def test_a_chain_is_no_part_of_a_chain():
    with pytest.raises(ValueError, match="chain"):
        Config.model_validate({"routers": {"c": {"name": "chain"}}})


def test_a_model_name_that_a_rule_knows_goes_where_it_says():
    config = Config.model_validate(
        {"routers": {"r": {"name": "rules", "rules": [{"expert": "a", "when": {"model": "gpt-.*"}}]}}}
    )
    router = extensions.load("router", "chain").build(config, EXPERTS, Counted().services)
    assert router.choose_named(asked(model="gpt-4")).expert == "a"
    assert router.choose_named(asked(model="llama")) is None
