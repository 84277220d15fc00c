"""A canary gets copies of requests: nobody waits for it or sees what it answers, and both sides are compared."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.gateway import fake_answers
from tests.gateway.conftest import DIE, FakeVllm, event, serve

if TYPE_CHECKING:
    from tests.gateway.canaries import MakeRolled, Rolled

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "number", "schema": SCHEMA}}


def says(asked: Any, kind: str, text: str, index: int) -> dict[str, Any]:
    """Answer as a model does that does not care for the schema."""
    return {"index": index, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}


@pytest.mark.parametrize("stream", [False, True])
async def test_stable_answers_and_the_canary_is_asked_the_same(rolled: Rolled, stream: bool) -> None:
    await rolled.set(shadows={"general": 1.0})
    for _ in range(5):
        answer = await rolled.ask(stream=stream)
        assert answer.headers["x-largeforge-model"] == "registry:general/1"
        assert "canary" not in answer.text
    canary = await rolled.counted("canary", requests=5)
    assert (canary["errors"], sum(canary["duration"]["counts"])) == (0, 5)
    assert sum(canary["ttft"]["counts"]) == (5 if stream else 0)
    stable = await rolled.counted("stable", requests=5)
    assert sum(stable["duration"]["counts"]) == 5
    assert rolled.canary.requests == rolled.stable.requests
    await rolled.counted("canary", agreement={"good": 0, "total": 5})
    assert rolled.metric("shadows_total", expert="general@canary", outcome="answered") == 5


async def test_only_a_share_is_copied_and_none_without(make_rolled: MakeRolled) -> None:
    rolled = await make_rolled()
    for share, least, most in ((None, 0, 0), (0.0, 0, 0), (0.5, 25, 75)):
        await rolled.set(shadows={"general": share})
        for _ in range(100):
            await rolled.ask()
        await asyncio.sleep(0.2)
        assert least <= len(rolled.canary.requests) <= most
    assert len(rolled.stable.requests) == 300


async def test_answers_that_agree_do_so_and_a_refusal_does_not(rolled: Rolled) -> None:
    await rolled.set(shadows={"general": 1.0})
    rolled.canary.text = rolled.stable.text = "Your order is on its way"
    for _ in range(3):
        await rolled.ask()
    await rolled.counted("canary", agreement={"good": 3, "total": 3})
    rolled.canary.status = 422
    assert (await rolled.ask()).status_code == 200
    await rolled.counted("canary", agreement={"good": 3, "total": 4})
    assert "agreement" not in (await rolled.counts())["stable"]
    assert rolled.metric(
        "quality_total", expert="general", model="registry:general/2", signal="agreement", good="true"
    ) == 3  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
async def test_a_copy_that_cannot_be_read_is_an_error_and_does_not_agree(rolled: Rolled, stream: bool) -> None:
    await rolled.set(shadows={"general": 1.0})
    rolled.stable.text = '{"n": 1}'
    for number in range(1, 4):
        if stream:
            rolled.canary.script = asyncio.Queue()
            for piece in (b'data: {"choices":[]}\n\n', b"data: [DONE]\n\n", None):
                rolled.canary.script.put_nowait(piece)
        else:
            rolled.canary.body = b'{"choices": []}'
        assert (await rolled.ask(stream=stream, response_format={"type": "json_object"})).status_code == 200
        await rolled.counted("canary", requests=number)
    canary = await rolled.counted("canary", agreement={"good": 0, "total": 3})
    assert (canary["errors"], sum(canary["duration"]["counts"])) == (3, 0)
    await rolled.counted("canary", schema_valid={"good": 0, "total": 3})
    stable = await rolled.counted("stable", schema_valid={"good": 3, "total": 3})
    assert stable["errors"] == 0 and "agreement" not in stable


async def test_what_cannot_be_read_on_both_sides_says_nothing_of_agreement(rolled: Rolled) -> None:
    await rolled.set(shadows={"general": 1.0})
    rolled.stable.body = rolled.canary.body = b'{"choices": []}'
    await rolled.ask()
    while not rolled.metric("quality_left_out_total", signal="agreement", why="unreadable"):
        await rolled.counts()
    assert "agreement" not in (await rolled.counts())["canary"]


async def test_both_answers_are_checked_and_only_the_real_one_counts_for_the_expert(
    rolled: Rolled, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(fake_answers, "_choice", says)
    rolled.stable.text, rolled.canary.text = '{"n": 1}', '{"n": "one"}'
    await rolled.set(shadows={"general": 1.0})
    for _ in range(4):
        assert json.loads((await rolled.ask(response_format=FORMAT)).json()["choices"][0]["message"]["content"])
    await rolled.counted("canary", schema_valid={"good": 0, "total": 4})
    await rolled.counted("stable", schema_valid={"good": 4, "total": 4})
    labels = {"expert": "general", "signal": "schema_valid"}
    assert rolled.metric("quality_total", model="registry:general/1", good="true", **labels) == 4
    assert rolled.metric("quality_total", model="registry:general/2", good="false", **labels) is None


async def test_a_judge_is_asked_of_both_answers(make_rolled: MakeRolled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_answers, "_choice", says)
    judge = FakeVllm('{"verdict": "good"}')
    server = await serve(judge.app)
    rolled = await make_rolled(quality={"judge": {"share": 1.0, "url": server.url, "model": "big"}})
    await rolled.set(shadows={"general": 1.0})
    for number in range(1, 4):
        await rolled.ask()
        for arm in ("stable", "canary"):
            await rolled.counted(arm, judge={"good": number, "total": number})
    told = [asked["messages"][1]["content"] for asked in judge.requests]
    assert sum("stable" in text for text in told) == sum("canary" in text for text in told) == 3
    labels = {"expert": "general", "signal": "judge", "good": "true"}
    assert rolled.metric("quality_total", model="registry:general/1", **labels) == 3
    assert rolled.metric("quality_total", model="registry:general/2", **labels) is None
    await server.stop()


async def test_what_cannot_be_read_is_bad_without_a_judge_being_asked(make_rolled: MakeRolled) -> None:
    judge = FakeVllm('{"verdict": "good"}')
    server = await serve(judge.app)
    rolled = await make_rolled(quality={"judge": {"share": 1.0, "url": server.url, "model": "big"}})
    await rolled.share(1.0)
    rolled.canary.body = b'{"choices": []}'
    await rolled.ask()
    await rolled.counted("canary", judge={"good": 0, "total": 1})
    assert not judge.requests
    rolled.canary.body = b'{"choices": [{"message": {"content": ""}}]}'
    await rolled.ask()
    while not rolled.metric("quality_left_out_total", signal="judge", why="unreadable"):
        await rolled.counts()
    assert (await rolled.counts())["canary"]["judge"] == {"good": 0, "total": 1}, "nothing to show is not wrong"
    await server.stop()


async def test_what_the_canary_answers_itself_counts_for_its_side(
    rolled: Rolled, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(fake_answers, "_choice", says)
    rolled.canary.text = "no JSON"
    await rolled.set(canaries={"general": 1.0}, shadows={"general": 1.0})
    answers = [await rolled.ask(response_format=FORMAT) for _ in range(3)]
    await rolled.counted("canary", schema_valid={"good": 0, "total": 3}, requests=3)
    assert len(rolled.canary.requests) == 3, "what it answers is not copied to it"
    for answer, word in zip(answers, ("up", "down", "down"), strict=True):
        rated = {"request_id": answer.headers["x-request-id"], "rating": word}
        assert (await rolled.client.post("/v1/feedback", json=rated)).status_code == 200
    assert (await rolled.counts())["canary"]["thumbs"] == {"good": 1, "total": 3}
    rolled.canary.status = 500
    answer = await rolled.ask(response_format=FORMAT)
    rated = {"request_id": answer.headers["x-request-id"], "rating": "down"}
    assert (await rolled.client.post("/v1/feedback", json=rated)).status_code == 200
    counts = await rolled.counts()
    assert counts["canary"]["thumbs"]["total"] == 3 and counts["canary"]["errors"] == 1
    assert "thumbs" not in counts["stable"], "stable's answer in its place says nothing of stable"


async def test_a_canary_that_fails_hangs_or_breaks_off_costs_no_client_anything(rolled: Rolled) -> None:
    await rolled.set(shadows={"general": 1.0})
    rolled.canary.status = 500
    for _ in range(3):
        assert (await rolled.ask()).status_code == 200
    canary = await rolled.counted("canary", requests=3)
    assert (canary["errors"], sum(canary["duration"]["counts"])) == (3, 0)
    assert (await rolled.counted("stable", requests=3))["errors"] == 0
    rolled.canary.status, rolled.canary.script = 200, asyncio.Queue()
    for piece in (event("Hal"), DIE):
        rolled.canary.script.put_nowait(piece)
    assert "[DONE]" in (await rolled.ask(stream=True)).text
    await rolled.counted("canary", requests=4, errors=4)
    rolled.canary.script, rolled.canary.finish = None, asyncio.Event()  # never
    for _ in range(40):
        assert (await rolled.ask()).status_code == 200
    assert rolled.metric("shadows_total", expert="general@canary", outcome="left-out") == 8, "32 at once"
    assert (await rolled.counts())["stable"]["errors"] == 0
    rolled.canary.finish.set()
    await rolled.counted("canary", requests=36, errors=4)


async def test_nothing_is_copied_while_the_gateway_spares_work(rolled: Rolled) -> None:
    await rolled.set(shadows={"general": 1.0}, mode="high_load")
    for _ in range(5):
        await rolled.ask()
    assert not rolled.canary.requests


async def test_shares_of_copies_are_checked(rolled: Rolled) -> None:
    for patch in ({"shadows": {"general": -0.1}}, {"shadows": {"genral": 0.5}}, {"shadows": {"general": "all"}}):
        assert (await rolled.client.patch("/admin/state", json=patch)).status_code == 400
