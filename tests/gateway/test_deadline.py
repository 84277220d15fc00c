"""The client's own deadline: kept by the gateway, and passed on."""

from __future__ import annotations

import asyncio

import pytest

from largeforge.gateway.deadline import limit_s
from largeforge.gateway.errors import ApiError

BODY = {"model": "support", "messages": [{"role": "user", "content": "hi"}]}


async def test_answer_that_comes_too_late_is_stopped(world):
    expert = world.experts["support"]
    expert.finish = asyncio.Event()
    headers = {"x-request-timeout": "0.2"}
    answer = await world.client.post("/v1/chat/completions", json=BODY, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
    assert "within 0.2 s" in answer.json()["error"]["message"]
    await expert.cancelled.wait()
    assert expert.headers[0]["x-request-timeout"] == "0.2"


async def test_requests_without_one_say_none(world):
    await world.chat()
    assert "x-request-timeout" not in world.experts["general"].headers[0]


@pytest.mark.parametrize(("given", "limit"), [(b"5", 5), (b"0.5", 0.5), (b"600", 300), (b"1e9", 300)])
def test_never_longer_than_the_gateway_waits(given, limit):
    assert limit_s({b"accept": b"x", b"x-request-timeout": given}, 300) == limit
    assert limit_s({}, 300) == 300


@pytest.mark.parametrize("given", [b"", b"soon", b"0", b"-1", b"nan", b"inf", b"5s", b"\xff"])
def test_no_number_of_seconds(given):
    with pytest.raises(ApiError) as refused:
        limit_s({b"x-request-timeout": given}, 300)
    assert (refused.value.status, refused.value.param) == (400, "x-request-timeout")
