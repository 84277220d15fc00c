"""The monitor: who may see it, what it says of known traffic, several workers as one, and what the page may do."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re

import httpx
import pytest
from prometheus_client import CollectorRegistry

from largeforge.gateway.access import Exchange
from largeforge.gateway.admin.state import State
from largeforge.gateway.metrics import Metrics
from largeforge.gateway.monitor import objectives
from largeforge.gateway.monitor.history import READ_EVERY_S, SECONDS, WINDOW_S, History
from largeforge.gateway.monitor.reading import Counts, Reading, read, totals
from largeforge.gateway.monitor.rollouts import shown
from largeforge.gateway.tokens import Usage
from largeforge.recipe.sections.slos import Objective

OBJECTIVES = {
    "available": {"indicator": "availability", "objective": 0.9},
    "fast": {"indicator": "latency", "objective": 0.5, "threshold_ms": 700},
    "liked": {"indicator": "thumbs", "objective": 0.75, "by_expert": True},
}


async def data(world):
    found = await world.client.get("/monitor/data")
    assert found.status_code == 200, found.text
    return found.json()


async def test_only_operators_see_the_numbers_and_anybody_the_empty_page(world):
    async with httpx.AsyncClient(base_url=world.gateway.url, trust_env=False) as stranger:
        refused = await stranger.get("/monitor/data")
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "no_token")
        assert (await stranger.get("/monitor/data", params={"token": "token-of-the-tests"})).status_code == 401
        page = await stranger.get("/monitor")
        assert (page.status_code, "registry:" in page.text) == (200, False)
    assert (await world.client.get("/monitor/data")).headers["cache-control"] == "no-store"


async def test_the_page_may_run_its_own_script_and_nothing_else(world):
    page = await world.client.get("/monitor")
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page.text, re.S)
        assert policy[rule] == f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
    assert (policy["default-src"], policy["connect-src"], policy["frame-ancestors"]) == ("'none'", "'self'", "'none'")
    assert policy["require-trusted-types-for"] == "'script'"
    assert not re.search(r"(src|href)=\"(?!data:,|#)", page.text), "it asks for nothing else"


async def test_it_says_what_there_was(make_world):
    world = await make_world(slo={"objectives": OBJECTIVES, "burn_rates": []})
    answers = [await world.chat("my order", stream=number % 2 == 0) for number in range(6)]
    await world.chat("hi", model="general")
    world.experts["general"].status = 500
    assert (await world.chat("hi", model="general")).status_code == 502
    assert (await world.chat(model=7)).status_code == 400
    for answer, word in zip(answers, ("up", "up", "down"), strict=False):
        rated = {"request_id": answer.headers["x-request-id"], "rating": word}
        assert (await world.client.post("/v1/feedback", json=rated)).status_code == 200
    found = await data(world)
    while sum(found["history"]["requests"]) < 9:
        await asyncio.sleep(0.05)
        found = await data(world)
    assert (sum(found["history"]["requests"]), sum(found["history"]["failed"])) == (9, 1)
    experts = {one["name"]: one for one in found["experts"]}
    support = experts["support"]
    assert (support["requests"], support["models"], support["isolated"]) == (6, ["registry:support/1"], None)
    assert support["requests_per_s"] == pytest.approx(6 / found["window_s"], rel=0.2)
    assert 0 < support["duration"]["p50"] <= support["duration"]["p95"] <= support["duration"]["p99"] < 5
    assert support["ttft"]["p50"] > 0
    assert experts["mapper"]["duration"]["p50"] is None
    (server,) = support["replicas"]
    assert (server["state"], server["breaker"], server["load"], server["drained"]) == ("up", "closed", 0, None)
    kept = {(one["name"], one["expert"]): one for one in found["objectives"]}
    assert (kept["available", ""]["events"], kept["available", ""]["value"]) == (8, 7 / 8)
    assert kept["available", ""]["budget_left"] == pytest.approx(1 - (1 / 8) / 0.1)
    assert kept["fast", ""]["value_since_start"] == 1
    assert kept["liked", "support"]["value"] == pytest.approx(2 / 3)
    assert found["quality"] == [{"expert": "support", "signal": "thumbs", "good": 2, "bad": 1, "share": 2 / 3}]
    assert (found["mode"], found["rollouts"], found["workers"]) == ("normal", [], {"answered": 1, "all": 1})


async def test_it_says_what_operators_did_and_what_waits(make_world):
    world = await make_world(("general", "support"))
    url = world.servers["general"].url
    patch = {"mode": "high_load", "experts": {"support": "<i>bad</i>"}, "drained": {url: "disks"}}
    assert (await world.client.patch("/admin/state", json=patch)).status_code == 200
    asked = asyncio.create_task(world.chat("hi", model="general"))
    found = await data(world)
    while not found["queued"]:
        found = await data(world)
    experts = {one["name"]: one for one in found["experts"]}
    assert (found["mode"], found["in_flight"]) == ("emergency", 1)
    assert (experts["support"]["isolated"], experts["general"]["queued"]) == ("<i>bad</i>", 1)
    assert experts["general"]["replicas"][0]["drained"] == "disks"
    await world.client.patch("/admin/state", json={"drained": {url: None}})
    assert (await asked).status_code == 200


def test_several_workers_are_one_gateway(start, threaded_fakes):
    crew = start({name: running.url for name, running in threaded_fakes.items()}, workers=2)
    body = {"messages": [{"role": "user", "content": "hi"}]}
    for _ in range(20):
        assert httpx.post(crew.url + "/v1/chat/completions", json=body, trust_env=False).status_code == 200
    found = {"history": {"requests": []}}
    while sum(found["history"]["requests"]) < 20:
        found = httpx.get(crew.url + "/monitor/data", headers=crew.operates, trust_env=False).json()
    assert found["workers"] == {"answered": 2, "all": 2}
    assert {one["name"]: one["requests"] for one in found["experts"]} == {"general": 20, "support": 0}
    assert sum(found["history"]["requests"]) == 20


def counted(metrics, statuses, *, expert="general"):
    for status in statuses:
        usage = Usage(1, 2) if expert else None
        exchange = Exchange("x", 0.0, expert=expert, model="m" if expert else "", status=status, usage=usage)
        metrics.observe(exchange, 0.3)


def test_numbers_are_those_of_the_metrics_themselves():
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.follow({("general", "m")})
    counted(metrics, [200, 200, 404, 503])
    counted(metrics, [400], expert="")
    metrics.judged("general", "m", "judge", good=False)
    found = read(metrics)
    general = found.experts["general"]
    assert (general.requests, general.failed, general.refused, general.completion) == (4, 1, 1, 8)
    assert (found.together().requests, totals(metrics)) == (5, (5, 1, 8))
    assert general.quality == {"judge": [0, 1]}
    name, labels = "largeforge_gateway_request_duration_seconds_bucket", {"expert": "general", "model": "m"}
    for place, bound in enumerate(metrics.bounds["duration"]):
        cumulative = registry.get_sample_value(name, {**labels, "le": str(bound)})
        assert sum(general.duration[: place + 1]) == cumulative
    assert Reading.of_json(found.as_json()) == found


def test_the_ring_is_fixed_and_its_window_is_the_last_five_minutes():
    now = [1000.0]
    metrics = Metrics(CollectorRegistry())
    metrics.follow({("general", "m")})
    history = History(metrics=metrics, in_flight=lambda: 3, queued=lambda: 1, wall_clock=lambda: now[0])
    for _ in range(SECONDS + 100):
        now[0] += 1
        counted(metrics, [200, 500])
        history.look()
    assert len(history.seconds) == SECONDS
    last = history.seconds[-1]
    assert (last.second, last.requests, last.failed, last.in_flight, last.queued) == (int(now[0]) - 1, 2, 1, 3, 1)
    seconds, lately = history.window()
    assert WINDOW_S - READ_EVERY_S <= seconds <= WINDOW_S
    assert lately.experts["general"].requests == 2 * seconds
    assert history.total().experts["general"].requests == 2 * (SECONDS + 100)


def test_a_counter_that_began_anew_is_never_negative():
    after, before = (
        Reading({"a": Counts(requests=1, duration=[1, 0])}),
        Reading({"a": Counts(requests=9, duration=[5, 0])}),
    )
    assert after.plus(before, -1).experts["a"] == Counts(duration=[0, 0])


@pytest.mark.parametrize(
    ("share", "buckets", "expected"),
    [
        (0.5, [0, 0, 0, 0], None),
        (0.5, [10, 0, 0, 0], 0.05),
        (0.5, [0, 10, 0, 0], 0.15),
        (0.95, [0, 10, 10, 0], 0.29),
        (0.99, [0, 0, 0, 5], 0.3),
        (1.0, [1, 1, 1, 0], 0.3),
    ],
)
def test_percentiles_are_as_prometheus_estimates_them(share, buckets, expected):
    found = objectives.quantile(share, buckets, [0.1, 0.2, 0.3])
    assert found == (None if expected is None else pytest.approx(expected))


def test_an_objective_of_fallbacks_and_of_latency_counts_as_its_alert_does():
    counts = Counts(requests=10, refused=2, failed=1, duration=[4, 4, 2])
    total = Reading({"general": counts}, fallbacks=2)
    bounds = {"duration": [0.5, 0.7], "ttft": [], "inter_token": []}
    wanted = {
        "own": Objective(indicator="fallback", objective=0.5),
        "fast": Objective(indicator="latency", objective=0.5, threshold_ms=700),
        "judged": Objective(indicator="judge", objective=0.5),
    }
    found = {one["name"]: one for one in objectives.kept(wanted, lately=total, total=total, bounds=bounds)}
    assert (found["own"]["value"], found["own"]["events"]) == (6 / 8, 8)
    assert (found["fast"]["value"], found["fast"]["budget_left"]) == (0.8, pytest.approx(0.6))
    assert (found["judged"]["value"], found["judged"]["budget_left"]) == (None, None)


def test_rollouts_are_shown_newest_first_with_who_looks_after_them():
    def view(phase, changed, seen):
        return {
            "strategy": "canary", "phase": phase, "share": 0.5, "started": 0, "changed": changed, "seen": seen,
            "log": [{"time": at, "action": "step", "share": at / 10} for at in (1, 2)],
        }  # fmt: skip

    rollouts = {
        "watched": view("running", 100, 941), "alone": view("running", 300, 939), "over": view("promoted", 200, 400),
        "back": view("rolled_back", 50, 400),
    }  # fmt: skip
    canaries, guarded = {"by_hand": 0.1, "watched": 0.25, "off": 0.0, "alone": 0.0}, {"alone": "errors"}
    state = State.model_validate({"rollouts": rollouts, "canaries": canaries, "guarded": guarded})
    found = shown(state, 1000.0)
    assert [(one["expert"], one["has_controller"], one["share"], one["guarded"]) for one in found] == [
        ("by_hand", False, 0.1, None), ("alone", False, 0.0, "errors"), ("over", True, 0.5, None),
        ("watched", True, 0.25, None), ("back", True, 0.5, None),
    ]  # fmt: skip
    assert [entry["time"] for entry in found[1]["log"]] == [2, 1]
