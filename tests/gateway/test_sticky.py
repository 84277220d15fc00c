"""Traffic divided: who asks again gets the same, shares are as they were asked for, flags know whom they are on for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from largeforge.gateway.flags import Flags
from largeforge.gateway.routers.weighted import Config, build, check
from largeforge.gateway.routing import Decision, Router, Routing, Services
from largeforge.gateway.sticky import Division, Shares
from tests.gateway.routers.asking import Counted, asked, topology


def users(count: int):
    return [asked(user=f"user-{index}") for index in range(count)]


def share(found: list[str], name: str) -> float:
    return found.count(name) / len(found)


class Always(Router):
    def choose(self, request):
        return Decision("a", "always:a")


def test_a_place_is_the_same_in_every_process():
    code = "from largeforge.gateway.sticky import Division; print(Division('x', 's', None).place('user-1'))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert float(other) == Division("x", "s", lambda: 0.5).place("user-1")


def test_places_differ_by_purpose_and_salt_and_are_random_for_nobody():
    def random() -> float:
        return 0.25

    places = {Division(p, s, random).place("user-1") for p in ("a", "b") for s in ("", "x")}
    assert len(places) == 4
    assert Division("a", "", random).place("") == 0.25


def test_shares_end_where_they_should():
    shares = Shares({"a": 1, "none": 0, "b": 3})
    assert [shares.at(place) for place in (0.0, 0.2499, 0.25, 0.9999)] == ["a", "a", "b", "b"]
    rest = Shares({"a": 0.1}, whole=1.0)
    assert [rest.at(place) for place in (0.0999, 0.1, 0.9999)] == ["a", "", ""]
    assert Shares({}).at(0.5) == ""


def test_weighted_gives_shares_and_keeps_each_user_on_one_expert():
    experts = topology("general", "a", "b", experts={"general": {"weight": 0}, "a": {"weight": 3}})
    router = build(Config(), experts, Services())
    first = [router.choose(request).expert for request in users(2000)]
    assert first == [router.choose(request).expert for request in users(2000)]
    assert share(first, "a") == pytest.approx(0.75, abs=0.03)
    assert share(first, "general") == 0
    assert router.choose(users(1)[0]).reason in ("weighted:0.75", "weighted:0.25")
    assert router.scores(users(1)[0]) == {"general": 0.0, "a": 0.75, "b": 0.25}


def test_weighted_sticks_to_what_it_is_told():
    counted = Counted()
    experts = topology("a", "b")
    by_session = build(Config(sticky="session"), experts, counted.services)
    session = {"x-largeforge-session": "s1"}
    found = {by_session.choose(asked(user=f"u{index}", headers=session)).expert for index in range(20)}
    assert len(found) == 1
    counted.places = [0.1, 0.9]
    nobody = build(Config(sticky="request"), experts, counted.services)
    assert [nobody.choose(asked(user="u1")).expert for _ in range(2)] == ["a", "b"]


def test_weights_of_nobody_are_refused():
    assert [p.key for p in check(Config(weights={"x": 1.0}), topology("a"))] == ["weights.x"]
    assert [p.key for p in check(Config(), topology("a", experts={"a": {"weight": 0}}))] == ["weights"]


async def test_variants_take_their_share_also_of_who_names_the_expert():
    experts = topology("general", "a", "next", experts={"a": {"variants": {"next": 0.2}}})
    routing = Routing(experts, Always())
    routes = [await routing.route(request) for request in users(2000)]
    assert share([route.expert for route in routes], "next") == pytest.approx(0.2, abs=0.03)
    assert {route.reason for route in routes} == {"always:a", "always:a;variant:next"}
    named = [await routing.route(asked(user=f"user-{index}", model="a")) for index in range(200)]
    assert [route.expert for route in named] == [route.expert for route in routes[:200]]
    assert {route.expert for route in [await routing.route(asked(model="next", user="u"))]} == {"next"}


async def test_another_salt_divides_anew():
    def chosen(salt: str):
        experts = topology("a", "next", experts={"a": {"variants": {"next": 0.5}}}, salt=salt)
        return Routing(experts, Always())

    first, second = chosen(""), chosen("again")
    moved = [(await first.route(r)).expert != (await second.route(r)).expert for r in users(200)]
    assert 60 < sum(moved) < 140


async def test_shadows_are_asked_of_whoever_answers():
    experts = topology(
        "general", "a", "next", experts={"a": {"shadow": {"expert": "next", "share": 0.3}}, "general": {}}
    )
    routing = Routing(experts, Always())
    routes = [await routing.route(request) for request in users(1000)]
    assert {route.expert for route in routes} == {"a"}
    assert share([route.shadow for route in routes], "next") == pytest.approx(0.3, abs=0.04)
    assert (await routing.route(asked(model="general", user="u"))).shadow == ""


def flags(**given) -> Flags:
    return Flags(topology("a", flags=given), lambda: 0.0)


def test_flags_are_on_by_user_then_tenant_then_share():
    found = flags(beta={"share": 0, "tenants": {"acme": True, "half": 0.5}, "users": {"u1": True, "u2": False}})
    acme, half = {"x-largeforge-tenant": "acme"}, {"x-largeforge-tenant": "half"}
    assert not found.is_on("beta", asked())
    assert found.is_on("beta", asked(user="u1"))
    assert found.is_on("beta", asked(user="u3", headers=acme))
    assert not found.is_on("beta", asked(user="u2", headers=acme))
    on = [found.is_on("beta", asked(user=f"x{index}", headers=half)) for index in range(1000)]
    assert sum(on) == pytest.approx(500, abs=60)


def test_flags_may_be_written_as_one_value():
    assert flags(a=True, b=False, c=0.5).on(asked(user="u1")).items() >= {"a": True, "b": False}.items()
