"""Embeddings, rerank and score; and that whatever a request asks for reaches the expert and comes back."""

from __future__ import annotations

import pytest

from tests.gateway.conftest import FakeVllm, serve

EXPERTS = ("general", "support", "vectors", "judge")


@pytest.fixture
async def world(make_world):
    return await make_world(EXPERTS)


async def post(world, path, **body):
    return await world.client.post(path, json=body)


async def test_embeddings_reach_the_only_expert_that_embeds(world):
    answer = await post(world, "/v1/embeddings", input=["four", "seven77"], encoding_format="float", user="u")
    assert answer.status_code == 200
    assert [item["embedding"] for item in answer.json()["data"]] == [[4.0, 1.0], [7.0, 1.0]]
    assert answer.headers["x-largeforge-expert"] == "vectors"
    assert answer.headers["x-largeforge-route"] == "task"
    asked = world.experts["vectors"].requests[0]
    assert asked == {"input": ["four", "seven77"], "encoding_format": "float", "user": "u", "model": "vectors"}


async def test_rerank_and_score_under_all_their_names(make_world):
    world = await make_world(("general", "judge"))
    for path in ("/v1/rerank", "/rerank", "/v2/rerank"):
        answer = await post(world, path, query="red car", documents=["a blue boat", "the red car"], top_n=1)
        assert [result["index"] for result in answer.json()["results"]] == [1]
        assert answer.headers["x-largeforge-expert"] == "judge"
    for one, two in (("text_1", "text_2"), ("queries", "documents"), ("queries", "items"), ("data_1", "data_2")):
        answer = await post(world, "/v1/score", **{one: "same", two: ["same", "other"]})
        assert [item["score"] for item in answer.json()["data"]] == [1.0, 0.0]
    assert (await post(world, "/score", text_1="a", text_2="a")).status_code == 200


async def test_expert_of_embeddings_also_reranks_when_it_is_named(world):
    answer = await post(world, "/v1/rerank", model="vectors", query="a", documents=["a"])
    assert answer.headers["x-largeforge-expert"] == "vectors"
    assert answer.headers["x-largeforge-route"] == "model"


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "message"),
    [
        ("/v1/embeddings", {"input": "x", "model": "general"}, 400, "wrong_kind", "'general' cannot embed; these can"),
        ("/v1/embeddings", {"input": "x", "model": "judge"}, 400, "wrong_kind", "can embed: vectors"),
        ("/v1/embeddings", {"input": "x", "model": "vectros"}, 404, "model_not_found", "did you mean 'vectors'"),
        ("/v1/score", {"text_1": "a", "text_2": "b", "model": "support"}, 400, "wrong_kind", "vectors, judge"),
        ("/v1/rerank", {"query": "a", "documents": ["b"]}, 400, "missing_required_parameter", "name one of them"),
        ("/v1/chat/completions", {"messages": [{}], "model": "vectors"}, 400, "wrong_kind", "general, support"),
        ("/v1/completions", {"prompt": "x", "model": "judge"}, 400, "wrong_kind", "cannot write answers"),
    ],
)
async def test_wrong_kind_for_an_expert(world, path, body, status, code, message):
    answer = await world.client.post(path, json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, "model")
    assert error["type"] == "invalid_request_error"
    assert message in error["message"]
    assert all(expert.requests == [] for expert in world.experts.values())


async def test_nobody_can(make_world):
    world = await make_world(("general",))
    answer = await post(world, "/v1/embeddings", input="x")
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "No expert of this gateway can embed."


async def test_an_expert_that_embeds_is_replaced_by_those_that_it_names(make_world):
    world = await make_world(EXPERTS)
    twin = FakeVllm("twin")
    server = await serve(twin.app)
    config = (await world.client.get("/admin/config")).json()
    config["topology"]["experts"]["vectors"]["fallback"] = ["twin"]
    config["topology"]["experts"]["twin"] = {"model": "registry:vectors/1", "task": "embed"}
    config["upstreams"]["twin"] = [{"url": server.url, "served_model": "twin", "model": "registry:vectors/1"}]
    assert (await world.client.put("/admin/config", json=config)).status_code == 200
    await world.kill("vectors")
    answer = await post(world, "/v1/embeddings", model="vectors", input="x")
    assert (answer.status_code, answer.headers["x-largeforge-expert"]) == (200, "twin")
    await server.stop()


async def test_another_expert_never_stands_in_for_one_that_embeds(world):
    await world.kill("vectors")
    answer = await post(world, "/v1/embeddings", input="x")
    assert answer.status_code in (502, 503)
    assert "x-largeforge-fallback" not in answer.headers
    assert world.experts["general"].requests == []


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/embeddings", {}, "input"),
        ("/v1/embeddings", {"input": None}, "input"),
        ("/v1/embeddings", {"input": []}, "input"),
        ("/v1/embeddings", {"input": ["a", None]}, "input[1]"),
        ("/v1/embeddings", {"input": [True]}, "input[0]"),
        ("/v1/embeddings", {"messages": "hi"}, "messages"),
        ("/v1/rerank", {"documents": ["a"]}, "query"),
        ("/v1/rerank", {"query": ["a"], "documents": ["a"]}, "query"),
        ("/v1/rerank", {"query": "a"}, "documents"),
        ("/v1/rerank", {"query": "a", "documents": []}, "documents"),
        ("/v1/rerank", {"query": "a", "documents": ["a", 5]}, "documents[1]"),
        ("/v1/rerank", {"query": "a", "documents": ["a"], "top_n": -1}, "top_n"),
        ("/v1/rerank", {"query": "a", "documents": ["a"], "top_n": "1"}, "top_n"),
        ("/v1/score", {}, "text_1"),
        ("/v1/score", {"text_1": "a"}, "text_2"),
        ("/v1/score", {"items": "a"}, "queries"),
        ("/v1/score", {"data_1": "a", "data_2": [["b"]]}, "data_2[0]"),
        ("/v1/score", {"queries": 5, "documents": "a"}, "queries"),
    ],
)
async def test_errors_name_the_parameter(world, path, body, param):
    answer = await world.client.post(path, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


async def test_models_say_what_they_do(world):
    cards = (await world.client.get("/v1/models")).json()["data"]
    assert {card["id"]: card["task"] for card in cards} == {
        "auto": "generate", "general": "generate", "support": "generate", "vectors": "embed", "judge": "score",
    }  # fmt: skip


TOOL = {"type": "function", "function": {"name": "track", "parameters": {"type": "object", "properties": {}}}}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@pytest.mark.parametrize(
    ("fields", "path", "value"),
    [
        ({"n": 3}, ("choices", 2, "index"), 2),
        ({"stop": ["\n", "END"]}, ("choices", 0, "stop_reason"), ["\n", "END"]),
        ({"seed": 2**63 - 1}, ("system_fingerprint",), f"seed-{2**63 - 1}"),
        (
            {"logprobs": True, "top_logprobs": 2},
            ("choices", 0, "logprobs", "content", 0, "top_logprobs", 1, "token"),
            "1",
        ),
        (
            {"tools": [TOOL], "tool_choice": "auto"},
            ("choices", 0, "message", "tool_calls", 0, "function", "name"),
            "track",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
            ("choices", 0, "message", "content"),
            '{"city": "I am general"}',
        ),
        ({"structured_outputs": {"choice": ["yes", "no"]}}, ("choices", 0, "message", "content"), "no"),
    ],
)
async def test_what_is_asked_for_arrives_and_comes_back(world, fields, path, value):
    body = {"model": "general", "messages": [{"role": "user", "content": "hi"}], **fields}
    answer = await world.client.post("/v1/chat/completions", json=body)
    assert world.experts["general"].requests == [body]
    found = answer.json()
    for key in path:
        found = found[key]
    assert found == value


async def test_request_that_names_its_expert_passes_as_the_same_bytes(world):
    body = b' {"messages":[{"role":"user","content":"\\u00e9"}],  "seed": 12345678901234567890123, "model":"general"}\n'
    assert (await world.client.post("/v1/chat/completions", content=body)).status_code == 200
    assert world.experts["general"].bodies == [body]
