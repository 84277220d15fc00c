"""Answers are judged after they were sent: under their schema, against a shadow, by a judge; and never at a cost."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from types import SimpleNamespace

import httpx
import pytest
from prometheus_client import CollectorRegistry

from largeforge.errors import RecipeError
from largeforge.gateway.access import Exchange
from largeforge.gateway.admin.state import State
from largeforge.gateway.app import create_app
from largeforge.gateway.arms import Arms
from largeforge.gateway.config import read
from largeforge.gateway.metrics import Metrics
from largeforge.gateway.quality import service
from largeforge.gateway.quality.agreement import agree, f1, texts_agree
from largeforge.gateway.quality.answers import Choice, choices
from largeforge.gateway.quality.checker import Checker, CheckFailed
from largeforge.gateway.request import parse
from largeforge.recipe.sections.quality import Quality
from tests.gateway import fake_answers
from tests.gateway.conftest import FakeVllm, event, serve

SCHEMA = {
    "type": "object", "properties": {"n": {"type": "integer"}, "word": {"pattern": "^[a-z]+$"}}, "required": ["n"],
}  # fmt: skip
FORMAT = {"type": "json_schema", "json_schema": {"name": "number", "schema": SCHEMA}}
OBJECT = {"type": "json_object"}


def judged(world, signal, good, **labels):
    return world.metric("quality_total", signal=signal, good="true" if good else "false", **labels)


async def until(world, *wanted, **labels):
    while tuple(judged(world, wanted[0], good, **labels) for good in (True, False)) != wanted[1:]:
        await world.client.get("/health")


def _says(asked, kind, text, index):
    """Answer as a model does that does not care for the schema."""
    return {"index": index, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}


@pytest.mark.parametrize("stream", [False, True])
async def test_answers_are_checked_under_the_schema_that_was_asked_for(world, stream, monkeypatch):
    monkeypatch.setattr(fake_answers, "_choice", _says)
    for text in ('{"n": 1, "word": "abc"}', '{"n": "1"}', '{"n": 1, "word": "A"}', '{"n": 1', ""):
        world.experts["general"].text = text
        assert (await world.chat(stream=stream, response_format=FORMAT)).status_code == 200
    await until(world, "schema_valid", 1, 4, expert="general", model="registry:general/1")
    world.experts["general"].text = "[1]"
    await world.chat(stream=stream, response_format=OBJECT)
    await world.chat(stream=stream, response_format={"type": "text"})
    await world.chat(stream=stream)
    await until(world, "schema_valid", 1, 5)


async def test_answers_that_have_no_verdict_are_counted_as_such(world, monkeypatch):
    monkeypatch.setattr(fake_answers, "_choice", _says)
    wrong = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": 7}}}
    world.experts["general"].text = "{}"
    await world.chat(response_format=wrong)
    await world.counted("quality_left_out_total", signal="schema_valid", why="unreadable")
    world.experts["general"].text = '{"a": "' + "x" * service.MOST_ANSWER_BYTES + '"}'
    await world.chat(response_format=OBJECT)
    await world.counted("quality_left_out_total", signal="schema_valid", why="too-large")
    assert judged(world, "schema_valid", True) + judged(world, "schema_valid", False) == 0


@pytest.mark.parametrize("mode", ["high_load", "degraded"])
async def test_nothing_is_judged_while_the_gateway_spares_work(world, mode):
    await world.client.patch("/admin/state", json={"mode": mode})
    world.experts["general"].text = "[]"  # would be counted as a bad one
    await world.chat(response_format=OBJECT)
    await world.client.patch("/admin/state", json={"mode": "normal"})
    world.experts["general"].text = "{}"
    await world.chat(response_format=OBJECT)
    await until(world, "schema_valid", 1, 0)
    assert judged(world, "schema_valid", False) == 0


@pytest.mark.parametrize("body", [b'{"choices": []}', b'{"id": 1}', b'{"choices": [{"message": null}]}'])
async def test_an_answer_that_cannot_be_read_breaks_every_schema(world, body):
    world.experts["general"].body = body
    for wanted in (OBJECT, FORMAT):
        await world.chat(response_format=wanted)
    await until(world, "schema_valid", 0, 2, expert="general")


@pytest.mark.parametrize(("code", "bad"), [(500, 1), (400, 0)])
async def test_a_stream_that_ends_with_an_error_is_wrong_unless_it_is_the_clients(world, code, bad):
    script = world.experts["general"].script = asyncio.Queue()
    failed = json.dumps({"error": {"message": "no", "code": code}}).encode()
    for piece in (event("{"), b"data: " + failed + b"\n\ndata: [DONE]\n\n", None):
        script.put_nowait(piece)
    await world.chat(stream=True, response_format=OBJECT)
    if not bad:
        await world.counted("quality_left_out_total", signal="schema_valid", why="unreadable")
    await until(world, "schema_valid", 0, bad)


async def test_calls_of_tools_alone_break_no_schema(world):
    tools = [{"type": "function", "function": {"name": "track"}}]
    await world.chat(response_format=OBJECT, tools=tools)
    await world.counted("quality_left_out_total", signal="schema_valid", why="unreadable")
    assert judged(world, "schema_valid", False) == 0


async def shadowed(world, **quality):
    data = json.loads(world.file.model_dump_json())
    data["topology"]["experts"]["general"]["shadow"] = {"expert": "mapper", "share": 1.0}
    data["gateway"]["quality"] = quality
    registry = CollectorRegistry()
    gateway = await serve(create_app(type(world.file).model_validate(data), registry=registry))
    client = httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=30)

    def count(good):
        labels = {"expert": "mapper", "model": "registry:mapper/1", "signal": "agreement", "good": good}
        return registry.get_sample_value("largeforge_gateway_quality_total", labels) or 0.0

    return gateway, client, count


@pytest.mark.parametrize(("least", "expected"), [(0.7, (4, 2)), (1.0, (2, 4))])
async def test_a_shadow_agrees_or_does_not(world, least, expected):
    gateway, client, count = await shadowed(world, agreement_f1=least)
    body = {"model": "general", "messages": [{"role": "user", "content": "hi"}]}
    for own, other in (
        ('{"a": 1, "b": [2]}', '{"b":[2],"a":1}'),
        ("The order is  on its way", "the order is on its way today"),
        ("No", "Yes, of course"),
    ):
        world.experts["general"].text, world.experts["mapper"].text = own, other
        before = count("true") + count("false")
        for stream in (False, True):
            await client.post("/v1/chat/completions", json={**body, "stream": stream})
        while count("true") + count("false") < before + 2:
            await world.client.get("/health")
    assert (count("true"), count("false")) == expected
    await client.aclose()
    await gateway.stop()


async def test_an_expert_of_the_topology_judges_a_sample(make_world, monkeypatch):
    monkeypatch.setattr(fake_answers, "_choice", _says)
    world = await make_world(quality={"judge": {"share": 1.0, "expert": "mapper"}})
    for number, reply in enumerate(('{"verdict": "good"}', '{"verdict": "bad"}', "I would say good")):
        world.experts["mapper"].text = reply
        await world.chat("my order, please", stream=reply.startswith("I"))
        while sum(world.metric(f"quality{name}_total", signal="judge") for name in ("", "_left_out")) <= number:
            await world.client.get("/health")
    await until(world, "judge", 1, 1, expert="support")
    assert world.metric("quality_left_out_total", signal="judge", why="unreadable") == 1
    asked = world.experts["mapper"].requests[0]
    assert asked["model"] == "mapper"
    assert "my order, please" in asked["messages"][1]["content"]
    assert "I am support" in asked["messages"][1]["content"]
    await world.client.patch("/admin/state", json={"experts": {"mapper": "ill"}})
    await world.chat("my order")
    await world.counted("quality_left_out_total", signal="judge", why="away")


async def test_another_server_judges_with_its_key(make_world, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "a-secret")
    monkeypatch.setattr(fake_answers, "_choice", _says)
    judge = FakeVllm('{"verdict": "good"}')
    server = await serve(judge.app)
    settings = {"share": 1.0, "url": server.url, "model": "big", "api_key_env": "JUDGE_KEY", "instructions": "Judge!"}
    world = await make_world(quality={"judge": settings})
    await world.chat("my order", model="support")
    await until(world, "judge", 1, 0, expert="support")
    assert judge.headers[0]["authorization"] == "Bearer a-secret"
    assert (judge.requests[0]["model"], judge.requests[0]["messages"][0]["content"]) == ("big", "Judge!")
    judge.status = 500
    await world.chat("my order", model="support")
    await world.counted("quality_left_out_total", signal="judge", why="failed")
    await server.stop()


@pytest.mark.parametrize(
    ("judge", "words"),
    [
        ({"share": 0.1}, "say who"),
        ({"share": 0.1, "expert": "general", "url": "http://a"}, "say who"),
        ({"url": "http://127.0.0.1:1"}, "model is required"),
        ({"share": 0.1, "expert": "nobody"}, "gateway.quality.judge.expert"),
        ({"share": 2}, "less than or equal to 1"),
    ],
)
def test_a_judge_that_cannot_be_asked_is_refused(make_file, tmp_path, judge, words):
    data = json.loads(make_file({"general": "http://127.0.0.1:9"}).model_dump_json())
    data["gateway"]["quality"]["judge"] |= judge
    (tmp_path / "gateway.json").write_text(json.dumps(data))
    with pytest.raises(RecipeError, match=words):
        read(tmp_path / "gateway.json")


def a_service(**options):
    metrics = Metrics(CollectorRegistry())
    metrics.follow({("general", "m")})
    live = SimpleNamespace(now=SimpleNamespace(file=SimpleNamespace(gateway=SimpleNamespace(quality=Quality()))))
    found = service.Quality(live, metrics, options.pop("state", lambda: State()), arms=Arms(time.monotonic), **options)
    return found, metrics


def a_request(**fields):
    return parse(json.dumps({"messages": [{"role": "user", "content": "hi"}], **fields}).encode(), "chat")


def test_only_a_share_is_looked_at_and_nothing_is_kept_of_the_rest():
    draws = iter([0.4, 1.0, 0.6, 1.0])
    found, _ = a_service(draw=lambda: next(draws))
    settings = Quality(schema_share=0.5)
    assert found.look(a_request(response_format=OBJECT), settings, has_shadow=False).schema
    assert found.look(a_request(response_format=OBJECT), settings, has_shadow=False) is None
    assert found.look(a_request(), settings, has_shadow=False) is None
    spares, _ = a_service(state=lambda: State(mode="high_load"))
    assert spares.look(a_request(response_format=OBJECT), settings, has_shadow=False) is None


def test_what_does_not_fit_is_left_out_and_counted():
    found, metrics = a_service()
    exchange = Exchange("x", 0.0, expert="general", model="m")
    for _ in range(service.MOST_WAITING + 5):  # nobody works them off
        seen = found.look(a_request(response_format=OBJECT), Quality(), has_shadow=False)
        found.answered(seen, exchange, b"{}")
    labels = {"signal": "schema_valid", "why": "full"}
    assert metrics.registry.get_sample_value("largeforge_gateway_quality_left_out_total", labels) == 5


def ask(text, wanted):
    body = json.dumps({"choices": [{"message": {"content": text}}]})
    return {"kind": "schema_valid", "answer": {"body": body, "is_stream": False}, "format": wanted}


async def test_a_schema_without_end_costs_a_process_and_no_more():
    checker = Checker(timeout_s=1.0)
    levels = {f"l{n}": {"anyOf": [{"$ref": f"#/$defs/l{n + 1}"}] * 2} for n in range(40)}
    endless = {"$ref": "#/$defs/l0", "$defs": {**levels, "l40": False}}
    wanted = {"type": "json_schema", "json_schema": {"schema": endless}}
    began = time.monotonic()
    with pytest.raises(CheckFailed, match="timeout"):
        await checker.ask(ask("{}", wanted))
    assert time.monotonic() - began < 30
    assert await checker.ask(ask("{}", OBJECT)) == [True]
    backtracks = {"type": "json_schema", "json_schema": {"schema": {"pattern": "^(a+)+$"}}}
    assert await checker.ask(ask(json.dumps("a" * 60 + "!"), backtracks)) == [False]
    remote = {"type": "json_schema", "json_schema": {"schema": {"$ref": "http://127.0.0.1:9/x"}}}
    assert await checker.ask(ask("{}", remote)) == [False]
    await checker.stop()


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("print('{}', flush=True); input(); print('{\"missing\": \"jsonschema\"}')", "no-jsonschema"),
        ("print('{}', flush=True); input()", "died"),
        ("pass", "died"),
    ],
)
async def test_a_process_that_cannot_judge_says_why(program, why):
    checker = Checker((sys.executable, "-c", program))
    with pytest.raises(CheckFailed, match=why):
        await checker.ask(ask("{}", OBJECT))
    await checker.stop()


def test_answers_are_read_whole_and_from_streams():
    tool = {"function": {"name": "track", "arguments": '{"id": 7}'}}
    whole = {"choices": [{"message": {"content": None, "tool_calls": [tool]}}, {"message": {"content": "hi"}}]}
    assert choices(json.dumps(whole).encode(), is_stream=False) == [
        Choice("", [("track", '{"id": 7}')]), Choice("hi")
    ]  # fmt: skip
    assert choices(b'{"choices": [{"text": "hi"}]}', is_stream=False) == [Choice("hi")]
    pieces = [{"name": "track", "arguments": '{"id"'}, {"arguments": ": 7}"}]
    calls = [{"choices": [{"delta": {"tool_calls": [{"index": 0, "function": one}]}}]} for one in pieces]
    stream = b"".join(b"data: " + json.dumps(call).encode() + b"\n\n" for call in calls) + b"data: [DONE]\n\n"
    assert choices(stream, is_stream=True) == [Choice("", [("track", '{"id": 7}')])]
    assert choices(event("a") + event("b", kind="text_completion"), is_stream=True) == [Choice("ab")]
    for broken in (b"", b"{", b"[]", b'{"choices": 7}', b'{"data": []}'):
        assert choices(broken, is_stream=False) == []
    assert choices(event("a") + b'data: {"error": {"message": "x"}}\n\n', is_stream=True) == []


def test_texts_agree_by_their_form():
    assert texts_agree(" a\n b ", "a b", least_f1=1)
    assert texts_agree('{"a": 1.0}', '{"a":1}', least_f1=1)
    assert not texts_agree('{"status": "delivered today"}', '{"status": "delivered now"}', least_f1=0.1)
    assert not texts_agree('{"a": 1}', "a 1", least_f1=0.1)
    assert f1("The red car.", "red car") == 1
    assert f1("", "word") == 0
    assert agree([Choice("", [("f", '{"a":1}')])], [Choice("", [("f", '{ "a": 1 }')])], least_f1=1)
    assert not agree([Choice("", [("f", "{}")])], [Choice("", [("g", "{}")])], least_f1=0.1)
    assert not agree([Choice("a")], [Choice("a"), Choice("a")], least_f1=0.1)
