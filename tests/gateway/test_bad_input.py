"""What the gateway refuses, always in OpenAI's shape and never by an exception."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from largeforge.gateway.errors import ApiError
from largeforge.gateway.request import MAX_DEPTH, Request, parse

USER = {"role": "user", "content": "hi"}


def nested(depth: int) -> bytes:
    return b'{"messages":[{"role":"user","content":"hi"}],"x":' + b"[" * depth + b"]" * depth + b"}"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"\xff\xfe", None),
        (b'{"messages": "\xff"}', None),
        (b"\xef\xbb\xbf{}", None),
        (b"[]", None),
        (b"null", None),
        (b'"text"', None),
        (b'{"messages": NaN}', None),
        (b"[" * 100_000, None),
        (nested(MAX_DEPTH + 1), None),
        (nested(2000), None),
        (b"{}", "messages"),
        (b'{"messages": null}', "messages"),
        (b'{"messages": {}}', "messages"),
        (b'{"messages": "hi"}', "messages"),
        (b'{"messages": []}', "messages"),
        (b'{"messages": ["hi"]}', "messages[0]"),
        (orjson.dumps({"messages": [USER], "model": 5}), "model"),
        (orjson.dumps({"messages": [USER], "model": None}), "model"),
        (orjson.dumps({"messages": [USER], "model": ["auto"]}), "model"),
    ],
)
async def test_bad_chats(world, body, param):
    answer = await world.client.post("/v1/chat/completions", content=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert error["message"]
    assert error["code"]
    assert set(error) == {"message", "type", "param", "code"}
    assert all(expert.requests == [] for expert in world.experts.values())
    assert world.metric("requests_total", expert="none", status="400") == 1


@pytest.mark.parametrize(("body", "param"), [(b"{}", "prompt"), (b'{"prompt": 5}', "prompt")])
async def test_bad_completions(world, body, param):
    answer = await world.client.post("/v1/completions", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


async def test_as_deep_as_allowed_passes(world):
    answer = await world.client.post("/v1/chat/completions", content=nested(MAX_DEPTH - 1))
    assert answer.status_code == 200


async def test_many_messages_are_not_deep(world):
    answer = await world.client.post("/v1/chat/completions", json={"messages": [USER] * 500})
    assert answer.status_code == 200


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_too_large(make_world, is_chunked):
    world = await make_world(max_body_mib=0.5)

    async def chunks():
        for _ in range(40):
            yield b" " * 2**15

    content = chunks() if is_chunked else b" " * 40 * 2**15
    answer = await world.client.post("/v1/chat/completions", content=content)
    assert answer.status_code == 413
    assert "0.5 MiB" in answer.json()["error"]["message"]
    assert (await world.chat()).status_code == 200


async def test_body_of_several_mebibytes_passes(world):
    text = "x" * 3 * 2**20
    answer = await world.chat(text)
    assert answer.status_code == 200
    assert world.experts["general"].requests[0]["messages"][0]["content"] == text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("POST", "/metrics", 405, "method_not_allowed"),
        ("GET", "/", 404, "unknown_url"),
        ("POST", "/v1/chat/completions/", 404, "unknown_url"),
        ("GET", "/docs/../../etc/passwd", 404, "unknown_url"),
        ("GET", "/docs/%2e%2e%2findex.html", 404, "unknown_url"),
        ("GET", "/docs/swagger-initializer.js", 404, "unknown_url"),
        ("GET", "/%ff%ed%a0%80", 404, "unknown_url"),
    ],
)
async def test_wrong_paths_and_methods(world, method, path, status, code):
    answer = await world.client.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert answer.headers["x-request-id"]
    if status == 405:
        assert answer.headers["allow"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
requests = st.fixed_dictionaries(
    {},
    optional={
        "model": json_values,
        "prompt": json_values,
        "messages": json_values
        | st.lists(st.fixed_dictionaries({"role": st.just("user") | json_values, "content": json_values}), max_size=3),
    },
)


def check(body: bytes) -> None:
    for kind in ("chat", "completion"):
        try:
            request = parse(body, kind)
        except ApiError as error:
            assert error.status == 400
            assert orjson.dumps(error.body())
        else:
            assert isinstance(request, Request)
            assert isinstance(request.text, str)
            assert orjson.loads(request.body_for("served"))["model"] == "served"


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_parsed(body):
    check(body)


@given(json_values | requests)
def test_any_json_is_refused_or_parsed(value):
    try:
        body = orjson.dumps(value)
    except orjson.JSONEncodeError:
        return
    check(body)
