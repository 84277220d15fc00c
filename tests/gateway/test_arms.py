"""A canary gets its share of an expert's requests, costs no client an answer, and is counted beside stable."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from largeforge.gateway.arms import BOUNDS_S, summed
from largeforge.gateway.config import GatewayFile
from tests.gateway.conftest import MakeWorld, event, gateway_file

if TYPE_CHECKING:
    from tests.gateway.canaries import Rolled


async def test_without_a_share_a_canary_gets_nothing(rolled: Rolled) -> None:
    for _ in range(20):
        assert (await rolled.ask()).headers["x-largeforge-model"] == "registry:general/1"
    assert not rolled.canary.requests


async def test_a_user_stays_on_one_side_and_a_larger_share_only_adds_users(rolled: Rolled) -> None:
    sessions = [f"s{number}" for number in range(100)]
    gets: list[set[str]] = []
    for share in (0.1, 0.5, 1.0):
        await rolled.share(share)
        found = {name for name in sessions if (await rolled.ask(name)).headers["x-largeforge-lock"] == "lock-2"}
        again = {name for name in sessions[:20] if (await rolled.ask(name)).headers["x-largeforge-lock"] == "lock-2"}
        assert again == found & set(sessions[:20])
        gets.append(found)
    assert gets[0] < gets[1] < gets[2] == set(sessions)
    assert 2 <= len(gets[0]) <= 22 and 35 <= len(gets[1]) <= 65
    await rolled.share(None)
    assert (await rolled.ask("s1")).headers["x-largeforge-lock"] == "lock-general"


async def test_a_canary_that_fails_costs_nobody_an_answer_and_is_counted(rolled: Rolled) -> None:
    await rolled.share(1.0)
    rolled.canary.status = 500
    answers = [await rolled.ask() for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 5
    assert {answer.headers["x-largeforge-model"] for answer in answers} == {"registry:general/1"}
    assert not any("x-largeforge-fallback" in answer.headers for answer in answers)
    counts = await rolled.counts()
    assert (counts["canary"]["requests"], counts["canary"]["errors"]) == (5, 5)
    assert counts["stable"]["requests"] == 0, "what stable answered in its place says nothing of stable"


async def test_what_another_expert_answers_in_its_place_counts_against_its_own_side(make_world: MakeWorld) -> None:
    world = await make_world(("general", "support"))
    config = (await world.client.get("/admin/config")).json()
    stable = config["upstreams"]["support"][0]
    canary = {**stable, "url": config["upstreams"]["general"][0]["url"], "arm": "canary", "lock": "lock-2"}
    config["upstreams"]["support"] = [stable, canary]
    assert (await world.client.put("/admin/config", json=config)).status_code == 200
    world.experts["support"].status = 500
    answer = await world.chat(model="support")
    assert answer.headers["x-largeforge-expert"] == "general"
    counts = (await world.client.get("/admin/arms")).json()["data"]
    assert counts.keys() == {"support"}
    assert (counts["support"]["stable"]["requests"], counts["support"]["stable"]["errors"]) == (1, 1)


async def test_both_sides_are_counted_with_their_times(rolled: Rolled) -> None:
    await rolled.share(0.5)
    sessions = [f"s{number}" for number in range(30)]
    for name in sessions:
        assert (await rolled.ask(name)).status_code == 200
    counts = await rolled.counts()
    for arm, fake in (("canary", rolled.canary), ("stable", rolled.stable)):
        assert counts[arm]["requests"] == len(fake.requests) > 0
        assert counts[arm]["errors"] == 0
        assert sum(counts[arm]["duration"]["counts"]) == len(fake.requests)
        assert counts[arm]["duration"]["edges"] == list(BOUNDS_S)
        assert sum(counts[arm]["ttft"]["counts"]) == 0, "nothing was streamed"
    said = (await rolled.client.get("/admin/arms")).json()
    assert said["workers"] == {"0": said["data"]}


async def test_first_tokens_of_streams_are_counted(rolled: Rolled) -> None:
    await rolled.share(1.0)
    rolled.canary.script = asyncio.Queue()
    for piece in (event("Hi"), "data: [DONE]\n\n", None):
        rolled.canary.script.put_nowait(piece)
    assert "Hi" in (await rolled.ask(stream=True)).text
    assert sum((await rolled.counts())["canary"]["ttft"]["counts"]) == 1


async def test_mistakes_of_clients_count_for_nobody(rolled: Rolled) -> None:
    await rolled.share(1.0)
    rolled.canary.status = 422
    assert (await rolled.ask()).status_code == 422
    assert (await rolled.client.get("/admin/arms")).json()["data"] == {}


async def test_shares_are_checked(rolled: Rolled) -> None:
    for patch in ({"canaries": {"general": 1.5}}, {"canaries": {"genral": 0.5}}, {"canaries": {"general": "all"}}):
        answer = await rolled.client.patch("/admin/state", json=patch)
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    refused = await rolled.client.get("/admin/arms", headers={"authorization": "Bearer wrong"})
    assert refused.status_code == 401


def test_a_canary_alone_is_refused() -> None:
    values = gateway_file({"general": "http://127.0.0.1:9"}).model_dump(mode="json")
    values["upstreams"]["general"][0]["arm"] = "canary"
    with pytest.raises(ValidationError, match=r"upstreams\.general: a canary alone"):
        GatewayFile.model_validate(values)


def test_counts_of_workers_are_summed() -> None:
    one = {"a": {"canary": {"requests": 1, "errors": 0, "duration": {"edges": [1.0], "counts": [1, 0]}}}}
    other = {
        "a": {"canary": {"requests": 2, "errors": 1, "duration": {"edges": [1.0], "counts": [0, 1]}}},
        "b": {"stable": {"requests": 5}},
    }
    assert summed([one, other]) == {
        "a": {"canary": {"requests": 3, "errors": 1, "duration": {"edges": [1.0], "counts": [1, 1]}}},
        "b": {"stable": {"requests": 5}},
    }
    assert summed([]) == {}
