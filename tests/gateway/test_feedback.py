"""Ratings are counted for who answered: once, by any worker, and after a restart by what the client remembers."""

from __future__ import annotations

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from largeforge.client import AsyncRouterClient, RequestFailed
from largeforge.gateway.app import create_app
from largeforge.gateway.quality.recent import Recent


def rate(world, request_id, **fields):
    return world.client.post("/v1/feedback", json={"request_id": request_id, **fields})


def thumbs(world, expert, good):
    return world.metric("quality_total", expert=expert, signal="thumbs", good=good)


async def test_a_rating_counts_for_the_expert_and_model_that_answered(world):
    first, second = await world.chat("my order"), await world.chat("hi", stream=True)
    rated = await rate(world, first.headers["x-request-id"], rating="up", comment="thanks")
    assert (rated.status_code, rated.json()) == (
        200,
        {
            "object": "feedback", "request_id": first.headers["x-request-id"], "rating": "up",
            "expert": "support", "model": "registry:support/1", "counted": True,
        },
    )  # fmt: skip
    assert (await rate(world, second.headers["x-request-id"], score=0.49)).json()["expert"] == "general"
    labels = {"model": "registry:support/1", "signal": "thumbs", "good": "true"}
    assert world.metric("quality_total", expert="support", **labels) == 1
    assert (thumbs(world, "general", "false"), thumbs(world, "general", "true")) == (1, 0)


async def test_only_the_first_rating_of_a_request_counts(world):
    request_id = (await world.chat()).headers["x-request-id"]
    counted = [(await rate(world, request_id, rating=word)).json()["counted"] for word in ("up", "up", "down")]
    assert counted == [True, False, False]
    assert (thumbs(world, "general", "true"), thumbs(world, "general", "false")) == (1, 0)


async def test_what_had_no_answer_cannot_be_rated(world):
    world.experts["general"].status = 500
    failed = await world.chat()
    refused = await rate(world, failed.headers["x-request-id"], rating="down")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "request_not_found")


async def test_after_a_restart_the_client_says_who_answered(world, serve_app):
    request_id = (await world.chat("my order")).headers["x-request-id"]
    again = await serve_app(create_app(world.file, registry=(registry := CollectorRegistry())))
    said = {"request_id": request_id, "rating": "down"}
    async with httpx.AsyncClient(base_url=again.url, trust_env=False) as client:
        assert (await client.post("/v1/feedback", json=said)).status_code == 404
        for wrong in ({"expert": "support"}, {"expert": "support", "model": "m" * 9}, {"expert": "none", "model": ""}):
            assert (await client.post("/v1/feedback", json={**said, **wrong})).status_code == 404
        who = {"expert": "support", "model": "registry:support/1"}
        counted = [(await client.post("/v1/feedback", json={**said, **who})).json()["counted"] for _ in range(2)]
        assert counted == [True, False]
    await again.stop()
    labels = {"signal": "thumbs", "good": "false", **who}
    assert registry.get_sample_value("largeforge_gateway_quality_total", labels) == 1


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "rating"),
        ({"rating": "up", "score": 1}, "rating"),
        ({"rating": "sideways"}, "rating"),
        ({"rating": []}, "rating"),
        ({"score": 1.01}, "score"),
        ({"score": True}, "score"),
        ({"score": "1"}, "score"),
        ({"rating": "up", "comment": 7}, "comment"),
        ({"rating": "up", "comment": "x" * 10_001}, "comment"),
        ({"rating": "up", "request_id": "a b"}, "request_id"),
        ({"rating": "up", "request_id": None}, "request_id"),
    ],
)
async def test_a_wrong_rating_is_refused_by_its_parameter(world, fields, param):
    refused = await world.client.post("/v1/feedback", json={"request_id": "x", **fields})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff"])
async def test_a_body_that_is_no_object_is_refused(world, body):
    refused = await world.client.post("/v1/feedback", content=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_json")


async def test_the_log_has_the_rating_and_never_the_comment(make_watched):
    watched = await make_watched()
    async with httpx.AsyncClient(base_url=watched.running.url, trust_env=False) as client:
        body = {"messages": [{"role": "user", "content": "hi"}]}
        await client.post("/v1/chat/completions", json=body, headers={"x-request-id": "mine"})
        await watched.lines.get()
        said = {"request_id": "mine", "rating": "down", "comment": "a secret"}
        await client.post("/v1/feedback", json=said)
    lines = [await watched.lines.get(), await watched.lines.get()]
    assert lines[0] == {
        "request_id": "mine", "rating": "down", "expert": "general", "model": "registry:general/1", "counted": True
    }  # fmt: skip
    assert lines[1]["path"] == "/v1/feedback"
    assert "secret" not in str(lines)


async def test_a_reload_that_takes_the_expert_away_takes_its_ratings_away(world):
    answers = [await world.chat("my order") for _ in range(2)]
    assert (await rate(world, answers[0].headers["x-request-id"], rating="up")).status_code == 200
    for _ in range(2):  # the topology before the present one is still counted for
        file = (await world.client.get("/admin/config")).json()
        file["topology"]["experts"].pop("support", None)
        file["upstreams"].pop("support", None)
        file["gateway"]["health_interval_s"] += 1
        assert (await world.client.put("/admin/config", json=file)).status_code == 200
    gone = {"rating": "up", "expert": "support", "model": "registry:support/1"}
    assert (await rate(world, answers[1].headers["x-request-id"], **gone)).status_code == 404
    assert thumbs(world, "support", "true") == 0


async def test_the_client_rates_answers(world):
    async with AsyncRouterClient(world.gateway.url) as client:
        answer = await client.generate("my order")
        assert await client.feedback(answer, "up")
        assert not await client.feedback(answer.request_id, 0.0)
        with pytest.raises(RequestFailed, match="Nothing is known"):
            await client.feedback("never", "up")


def test_every_worker_takes_ratings_and_each_request_counts_once(start, threaded_fakes):
    crew = start({name: running.url for name, running in threaded_fakes.items()}, workers=2)
    body = {"messages": [{"role": "user", "content": "my order"}]}
    workers = set()
    for number in range(12):
        answer = httpx.post(crew.url + "/v1/chat/completions", json=body, trust_env=False)
        said = {"request_id": answer.headers["x-request-id"], "rating": "up"}
        counted = [httpx.post(crew.url + "/v1/feedback", json=said, trust_env=False).json() for _ in range(4)]
        assert [one["counted"] for one in counted] == [True, False, False, False], number
    found = {}
    for family in text_string_to_metric_families(httpx.get(crew.url + "/metrics", trust_env=False).text):
        for sample in family.samples:
            if sample.name == "largeforge_gateway_quality_total":
                found[sample.labels["worker"]] = sample.value
                workers.add(sample.labels["worker"])
    assert (sum(found.values()), workers) == (12, {"0", "1"})


def test_a_memory_forgets_the_oldest_and_never_the_latest():
    memory = Recent(8)
    for number in range(100):
        memory.put(str(number), number)
        assert [memory.get(str(one)) for one in range(max(0, number - 3), number + 1)][-4:] == list(
            range(max(0, number - 3), number + 1)
        )
    assert sum(memory.get(str(number)) is not None for number in range(100)) <= 8
    memory.put("99", 7)
    assert memory.get("99") == 7
