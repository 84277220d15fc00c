"""A canary gets its share of an expert's requests, costs no client an answer, and is counted beside stable."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from largeforge.gateway.arms import BOUNDS_S, summed
from largeforge.gateway.config import GatewayFile
from tests.gateway.conftest import FakeVllm, MakeWorld, event, gateway_file

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


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 429])
@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_canary_refuses_and_stable_answers_costs_nobody_an_answer(
    rolled: Rolled, status: int, stream: bool
) -> None:  # fmt: skip
    await rolled.share(0.5)
    rolled.canary.status = status
    answers = [await rolled.ask(f"s{number}", stream=stream) for number in range(30)]
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.headers["x-largeforge-model"] for answer in answers} == {"registry:general/1"}
    assert all("[DONE]" in answer.text if stream else answer.json()["choices"] for answer in answers)
    asked = len(rolled.canary.requests)
    assert asked > 5 and len(rolled.stable.requests) == 30, "nobody is asked twice"
    counts = await rolled.counts()
    assert [(counts[arm]["requests"], counts[arm]["errors"]) for arm in ("canary", "stable")] == [
        (asked, asked), (30 - asked, 0)
    ]  # fmt: skip
    assert rolled.metric("requests_total", expert="general", model="registry:general/1", status="200") == 30
    assert rolled.metric("fallbacks_total", reason="expert-down") == 0


@pytest.mark.parametrize("share", [None, 1.0])
async def test_mistakes_of_clients_count_for_nobody(rolled: Rolled, share: float | None) -> None:
    await rolled.share(share)
    rolled.canary.status, rolled.stable.status = 400, 422
    rolled.stable.error = {"message": "you said no such thing", "type": "BadRequestError", "param": None, "code": 422}
    answer = await rolled.ask()
    assert (answer.status_code, answer.json()) == (422, {"error": rolled.stable.error})
    assert answer.headers["x-largeforge-model"] == "registry:general/1"
    assert [len(fake.requests) for fake in (rolled.canary, rolled.stable)] == [1 if share else 0, 1]
    assert (await rolled.counts()) == {}
    assert rolled.metric("errors_total", expert="general", model="registry:general/1", error="expert_422") == 1


async def test_what_the_gateway_refuses_reaches_no_side_and_counts_for_none(rolled: Rolled) -> None:
    await rolled.share(1.0)
    body = {"messages": "hi"}
    assert (await rolled.client.post("/v1/chat/completions", json=body)).status_code == 400
    assert (rolled.canary.requests, rolled.stable.requests, await rolled.counts()) == ([], [], {})


async def test_where_both_sides_have_too_much_to_do_the_client_is_told_by_stable(rolled: Rolled) -> None:
    await rolled.share(1.0)
    for fake, seconds in ((rolled.canary, "7"), (rolled.stable, "9")):
        fake.status, fake.error_headers = 429, {"retry-after": seconds}
    answer = await rolled.ask()
    assert (answer.status_code, answer.headers["retry-after"], len(rolled.stable.requests)) == (429, "9", 1)
    assert (await rolled.counts()) == {}


async def test_a_refusal_is_what_the_client_gets_when_nobody_else_answers(rolled: Rolled) -> None:
    await rolled.share(1.0)
    rolled.canary.status, rolled.stable.status = 400, 500
    answer = await rolled.ask()
    assert (answer.status_code, answer.json()) == (400, {"error": rolled.canary.error})
    assert answer.headers["x-largeforge-model"] == "registry:general/2"
    assert (await rolled.counts()) == {}, "nobody knows whose mistake it was"


async def test_a_refusal_says_nothing_where_another_expert_answers(make_world: MakeWorld) -> None:
    world = await make_world(("general", "support", "mapper"))
    config = (await world.client.get("/admin/config")).json()
    stable = config["upstreams"]["support"][0]
    canary = {**stable, "url": config["upstreams"]["mapper"][0]["url"], "arm": "canary", "lock": "lock-2"}
    config["upstreams"]["support"] = [stable, canary]
    assert (await world.client.put("/admin/config", json=config)).status_code == 200
    assert (await world.client.patch("/admin/state", json={"canaries": {"support": 1.0}})).status_code == 200
    world.experts["mapper"].status, world.experts["support"].status = 400, 500
    answer = await world.chat(model="support")
    assert (answer.status_code, answer.headers["x-largeforge-expert"]) == (200, "general")
    assert (await world.client.get("/admin/arms")).json()["data"] == {}


def failed(code: int) -> bytes:
    """What vLLM sends in a stream for what goes wrong after its head."""
    return b"data: " + json.dumps({"error": {"message": "no", "type": "E", "param": None, "code": code}}).encode()


def script(fake: FakeVllm, *pieces: bytes) -> None:
    fake.script = asyncio.Queue()
    for piece in (*pieces, b"data: [DONE]\n\n", None):
        fake.script.put_nowait(piece)


@pytest.mark.parametrize("code", [400, 500])
async def test_a_stream_that_begins_with_an_error_is_a_refusal_too(rolled: Rolled, code: int) -> None:
    await rolled.share(1.0)
    script(rolled.canary, failed(code) + b"\n\n")
    answer = await rolled.ask(stream=True)
    assert "error" not in answer.text and "[DONE]" in answer.text
    counts = await rolled.counted("canary", requests=1)
    assert counts["errors"] == 1
    script(rolled.canary, failed(400) + b"\n\n")
    script(rolled.stable, failed(400) + b"\n\n")
    assert '"code": 400' in (await rolled.ask(stream=True)).text
    assert (await rolled.counts())["canary"]["requests"] == 1, "a mistake of the client"


UNREADABLE = (b'{"choices": []}', b'{"object": "chat.completion"}', b"[]", b"null", b'{"choices": [{"message": null}]}')


@pytest.mark.parametrize("body", UNREADABLE)
async def test_an_answer_that_holds_none_is_an_error_of_its_side(rolled: Rolled, body: bytes) -> None:
    await rolled.share(1.0)
    rolled.canary.body = body
    assert [(await rolled.ask()).content for _ in range(3)] == [body] * 3
    canary = await rolled.counted("canary", requests=3)
    assert (canary["errors"], sum(canary["duration"]["counts"])) == (3, 0)
    await rolled.share(None)
    rolled.stable.body = body
    await rolled.ask()
    assert (await rolled.counts())["stable"]["errors"] == 1, "of whichever side"


READABLE = (
    {"role": "assistant", "content": ""},
    {"role": "assistant", "content": None, "refusal": "I cannot help with that"},
    {"role": "assistant", "content": None, "reasoning": "So far, so good"},
    {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": {"name": "f"}}]},
    {"role": "assistant", "content": None, "audio": {"id": "a", "data": ""}},
)


@pytest.mark.parametrize("message", READABLE)
async def test_an_answer_need_not_be_text(rolled: Rolled, message: dict[str, Any]) -> None:
    await rolled.share(1.0)
    rolled.canary.body = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
    assert (await rolled.ask()).json()["choices"][0]["message"] == message
    assert (await rolled.counted("canary", requests=1))["errors"] == 0
    delta = {name: value for name, value in message.items() if name != "role" and value is not None}
    event_of_it = {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    script(rolled.canary, b"data: " + json.dumps(event_of_it).encode() + b"\n\n")
    await rolled.ask(stream=True)
    assert (await rolled.counted("canary", requests=2))["errors"] == 0


async def test_answers_of_every_kind_are_readable(rolled: Rolled) -> None:
    await rolled.share(1.0)
    for stream in (False, True):
        body = {"model": "general", "prompt": "hi", "stream": stream, "stream_options": {"include_usage": True}}
        if not stream:
            del body["stream_options"]
        answer = await rolled.client.post("/v1/completions", json=body)
        assert answer.status_code == 200, answer.text
    rolled.canary.text = "long " * 20_000
    await rolled.ask(tools=[{"type": "function", "function": {"name": "f"}}])
    await rolled.ask()
    assert (await rolled.counted("canary", requests=4))["errors"] == 0


@pytest.mark.parametrize("pieces", [(), (b'data: {"choices":[],"usage":{"prompt_tokens":3}}\n\n',)])
async def test_a_stream_that_brings_nothing_is_an_error(rolled: Rolled, pieces: tuple[bytes, ...]) -> None:
    await rolled.share(1.0)
    script(rolled.canary, *pieces)
    assert (await rolled.ask(stream=True)).status_code == 200
    assert (await rolled.counted("canary", requests=1))["errors"] == 1


@pytest.mark.parametrize(("code", "counted"), [(500, (1, 1)), (400, (0, 0))])
async def test_a_stream_that_ends_with_an_error_is_one_unless_it_is_the_clients(
    rolled: Rolled, code: int, counted: tuple[int, int]
) -> None:  # fmt: skip
    await rolled.share(1.0)
    rolled.canary.script = asyncio.Queue()
    rolled.canary.script.put_nowait(event("Hi"))
    async with rolled.client.stream(
        "POST", "/v1/chat/completions", json={"messages": [{"role": "user", "content": "hi"}], "stream": True}
    ) as answer:
        lines = answer.aiter_lines()
        assert "Hi" in await anext(lines)
        for piece in (failed(code) + b"\n\n", b"data: [DONE]\n\n", None):
            rolled.canary.script.put_nowait(piece)
        assert [line for line in [line async for line in lines] if str(code) in line]
    script(rolled.canary, event("Hi"))
    await rolled.ask(stream=True)
    canary = await rolled.counted("canary", requests=counted[0] + 1)
    assert canary["errors"] == counted[1]


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
