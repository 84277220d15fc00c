"""Which expert answers, and what the answer says about it."""

from __future__ import annotations

import json

import pytest


@pytest.mark.parametrize(
    ("text", "model", "expert", "route"),
    [
        ("Where is my ORDER?", "auto", "support", "keyword:order"),
        ("Where is my order?", None, "support", "keyword:order"),
        ("borders and reorders", "auto", "general", "default"),
        ("ticket#421", "auto", "mapper", "keyword:#42"),
        ("hello", "auto", "general", "default"),
        ("Where is my order?", "mapper", "mapper", "model"),
        ("detector", "general", "general", "model"),
    ],
)
async def test_expert_is_chosen_and_named(world, text, model, expert, route):
    answer = await world.chat(text, **({} if model is None else {"model": model}))
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == f"I am {expert}"
    assert answer.headers["x-largeforge-expert"] == expert
    assert answer.headers["x-largeforge-route"] == route
    assert answer.headers["x-largeforge-model"] == f"registry:{expert}/1"
    assert answer.headers["x-largeforge-lock"] == f"lock-{expert}"
    assert "x-largeforge-fallback" not in answer.headers
    assert world.experts[expert].requests[0]["model"] == expert


async def test_only_the_last_user_message_routes(world):
    messages = [
        {"role": "user", "content": "my order"},
        {"role": "assistant", "content": "refund"},
        {"role": "user", "content": [{"type": "text", "text": "now the"}, {"type": "text", "text": "detector"}]},
        {"role": "assistant", "content": "order"},
    ]
    answer = await world.client.post("/v1/chat/completions", json={"messages": messages})
    assert answer.headers["x-largeforge-expert"] == "mapper"


async def test_completions_route_by_their_prompt(world):
    answer = await world.client.post("/v1/completions", json={"model": "auto", "prompt": ["a refund", "please"]})
    assert answer.json()["choices"][0]["text"] == "I am support"
    tokens = await world.client.post("/v1/completions", json={"prompt": [1, 2, 3]})
    assert tokens.headers["x-largeforge-expert"] == "general"


async def test_unknown_model_goes_to_the_fallback_and_says_so(world):
    answer = await world.chat(model="gpt-4\r\nx-evil: é")
    assert answer.status_code == 200
    assert answer.headers["x-largeforge-expert"] == "general"
    assert answer.headers["x-largeforge-fallback"] == "unknown-model"
    assert answer.headers["x-largeforge-requested"] == "gpt-4%0D%0Ax-evil: %C3%A9"
    assert "x-evil" not in answer.headers
    assert world.metric("fallbacks_total", reason="unknown-model") == 1


async def test_bytes_pass_unchanged_when_the_name_is_right(world):
    body = b'{ "messages":[{"role":"user","content":"hi"}],"model" : "mapper", "seed":1.50 }'
    await world.client.post("/v1/chat/completions", content=body)
    assert world.experts["mapper"].bodies == [body]


async def test_only_the_model_is_replaced_for_auto(world):
    body = {"model": "auto", "messages": [{"role": "user", "content": "é😀"}], "x": [1, 2.5, None, {"y": True}]}
    await world.client.post("/v1/chat/completions", json=body)
    assert world.experts["general"].requests == [{**body, "model": "general"}]


async def test_upstream_sees_few_headers(world):
    headers = {
        "authorization": "Bearer secret",
        "cookie": "a=b",
        "x-forwarded-for": "1.2.3.4",
        "accept": "application/json",
        "x-request-id": "my-id.1",
        "x-custom": "1",
    }
    await world.client.post(
        "/v1/chat/completions", headers=headers, json={"messages": [{"role": "user", "content": "hi"}]}
    )
    seen = world.experts["general"].headers[0]
    assert set(seen) == {"host", "content-type", "accept", "x-request-id", "content-length"}
    assert seen["x-request-id"] == "my-id.1"


@pytest.mark.parametrize("given", ["a" * 129, "spa ce", "a/b", "", "é".encode()])
async def test_odd_request_ids_are_replaced(world, given):
    answer = await world.client.get("/health", headers={"x-request-id": given})
    assert len(answer.headers["x-request-id"]) == 32


async def test_sane_request_id_is_kept_also_on_errors(world):
    answer = await world.client.post("/v1/chat/completions", content=b"[", headers={"x-request-id": "A._-9"})
    assert answer.status_code == 400
    assert answer.headers["x-request-id"] == "A._-9"


async def test_models_lists_experts_and_auto(world):
    listed = (await world.client.get("/v1/models")).json()
    assert listed["object"] == "list"
    assert [card["id"] for card in listed["data"]] == ["auto", "general", "support", "mapper"]
    support = listed["data"][2]
    assert support["description"] == "Orders."
    assert support["object"] == "model"
    assert isinstance(support["created"], int)


async def test_adapters_share_a_server_under_their_own_names(world, make_file, serve_app):
    from largeforge.gateway.app import create_app

    url = world.servers["general"].url
    running = await serve_app(create_app(make_file({"general": url, "support": url})))
    answer = await world.client.post(
        running.url + "/v1/chat/completions", content=json.dumps({"messages": [{"role": "user", "content": "order"}]})
    )
    await running.stop()
    assert answer.headers["x-largeforge-expert"] == "support"
    assert world.experts["general"].requests[0]["model"] == "support"
