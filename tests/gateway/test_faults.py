"""Replicas that misbehave: what the client sees, what is counted, and that nothing else notices or leaks."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from largeforge.gateway.app import create_app
from tests.gateway.conftest import FakeVllm, gateway_file, serve
from tests.gateway.rogues import DONE, STREAM, Behave, Rogue, answer, chunk, drips, hangs, running, says

WHOLE = json.dumps({"object": "chat.completion", "choices": [{"message": {"content": "from the rogue"}}]}).encode()
HALF = WHOLE[: len(WHOLE) // 2]
EVENT = b'data: {"choices": []}\n\n'


class Pair:
    """A gateway before a replica that misbehaves, which is asked first, and one that does not."""

    def __init__(self, rogue: Rogue, fake: FakeVllm, client: httpx.AsyncClient, registry: CollectorRegistry):
        self.rogue, self.fake, self.client, self._registry = rogue, fake, client, registry
        self.log: list[dict[str, Any]] = []

    async def chat(self, *, stream: bool = False, limit: str = "") -> httpx.Response:
        body = {"messages": [{"role": "user", "content": "hi"}], "stream": stream}
        headers = {"x-request-timeout": limit} if limit else {}
        return await self.client.post("/v1/chat/completions", json=body, headers=headers)

    async def breaker(self) -> str:
        """Return the state of the rogue's breaker, after checking that no request holds a place or a connection."""
        (rogue, other) = (await self.client.get("/ready")).json()["experts"]["general"]["replicas"]
        assert (rogue["outstanding"], other["outstanding"]) == (0, 0)
        async with asyncio.timeout(30):
            while self.rogue.num_open:  # noqa: ASYNC110 - it is a matter of turns
                await asyncio.sleep(0)
        return str(rogue["breaker"])

    async def logged(self, status: int) -> dict[str, Any]:
        """Wait for a request that ended with a status."""
        async with asyncio.timeout(30):
            while not (found := [line for line in self.log if line["status"] == status]):
                await self.client.get("/health")
        return found[0]

    @property
    def further(self) -> float:
        """Attempts beyond the first of each request."""
        counted = (
            self._registry.get_sample_value("largeforge_gateway_retries_total", {"expert": "general", "why": why})
            for why in ("retry", "move", "hedge")
        )
        return sum(filter(None, counted))


MakePair = Callable[..., Any]


@pytest.fixture
async def make_pair() -> AsyncIterator[MakePair]:
    async with contextlib.AsyncExitStack() as stack:

        async def make(behave: Behave, **gateway: Any) -> Pair:
            rogue = await stack.enter_async_context(running(behave))
            fake = FakeVllm("from the other")
            server = await serve(fake.app)
            stack.push_async_callback(server.stop)
            options = {"health_interval_s": 60, "breaker": {"failures": 1, "open_s": 600}, **gateway}
            registry, log = CollectorRegistry(), []
            app = create_app(
                gateway_file({"general": [rogue.url, server.url]}, **options), registry=registry,
                log=lambda _, fields: log.append(dict(fields)),
            )  # fmt: skip
            front = await serve(app)
            stack.push_async_callback(front.stop)
            client = httpx.AsyncClient(base_url=front.url, trust_env=False, timeout=30)
            stack.push_async_callback(client.aclose)
            pair = Pair(rogue, fake, client, registry)
            pair.log = log
            return pair

        yield make


NO_ANSWER = {
    "closes at once": says(),
    "half a head": says(b"HTTP/1.1 200 OK\r\ncontent-ty"),
    "500": says(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 2\r\n\r\n{}"),
    "redirect": says(b"HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"),
    "switches protocols": says(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nxyz"),
    "no HTTP": says(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "TLS": says(b"\x15\x03\x01\x00\x02\x02\x46"),
    "HTTP/2": says(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + b"\x00" * 18),
    "endless head": says(*[b"HTTP/1.1 200 OK\r\n", *[b"x: " + b"y" * 4096 + b"\r\n"] * 30], closes=False),
    "endless continue": says(*[b"HTTP/1.1 100 Continue\r\n\r\n" * 200] * 30, closes=False),
}
NO_BODY = {
    "half a JSON": says(answer(HALF), closes=False),
    "half a JSON, closed": says(answer(HALF, length=len(WHOLE))),
    "length too large": says(answer(WHOLE, length=len(WHOLE) + 10)),
    "length too small": says(answer(WHOLE, length=len(WHOLE) - 10), closes=False),
    "two lengths": says(answer(WHOLE, head=b"content-length: 5\r\n")),
    "length and chunks": says(answer(WHOLE, head=b"transfer-encoding: chunked\r\n")),
    "wrong chunk": says(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n" + WHOLE),
    "packed": says(answer(b"\x1f\x8b\x08\x00" + bytes(20), head=b"content-encoding: gzip\r\n"), closes=False),
}
NO_EVENT = {
    "nothing of the stream": says(STREAM),
    "an empty stream": says(STREAM + b"0\r\n\r\n", closes=False),
    "half a chunk": says(STREAM + b"400\r\n"),
}
CASES = [
    *((name, behave, stream) for name, behave in NO_ANSWER.items() for stream in (False, True)),
    *((name, behave, False) for name, behave in NO_BODY.items()),
    *((name, behave, True) for name, behave in NO_EVENT.items()),
]


@pytest.mark.parametrize(("behave", "stream"), [case[1:] for case in CASES], ids=[f"{c[0]}-{c[2]}" for c in CASES])
async def test_what_is_no_answer_is_asked_elsewhere_once_and_counts(make_pair, behave, stream):
    pair = await make_pair(behave)
    said = await pair.chat(stream=stream)
    assert said.status_code == 200
    assert "x-largeforge-fallback" not in said.headers
    assert "rogue" not in said.text
    assert said.text.endswith("data: [DONE]\n\n") if stream else "from the other" in said.text
    assert await pair.breaker() == "open"
    assert pair.further == 1
    assert [(await pair.chat()).status_code for _ in range(3)] == [200] * 3
    assert len(pair.rogue.seen) <= 2, "left alone from then on; one that closed may have had it on an idle connection"


@pytest.mark.parametrize(
    "behave",
    [
        drips(answer(WHOLE)),
        says(b"HTTP/1.1 100 Continue\r\n\r\n", answer(WHOLE), closes=False),
        says(b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n" + WHOLE),
        drips(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunk(WHOLE) + b"0\r\n\r\n"),
    ],
    ids=["drip", "continue", "HTTP/1.0", "drip of a chunk"],
)
async def test_what_is_odd_but_whole_is_an_answer(make_pair, behave):
    pair = await make_pair(behave)
    said = await pair.chat()
    assert said.content == WHOLE
    assert (await pair.breaker(), pair.further) == ("closed", 0)


async def test_a_stream_that_drips_arrives_unchanged_and_in_whole_lines(make_pair):
    pair = await make_pair(drips(STREAM + chunk(EVENT * 5) + chunk(DONE) + b"0\r\n\r\n"))
    async with pair.client.stream(
        "POST", "/v1/chat/completions", json={"messages": [{"role": "user", "content": "hi"}], "stream": True}
    ) as said:
        pieces = [piece async for piece in said.aiter_raw()]
    assert b"".join(pieces) == EVENT * 5 + DONE
    assert all(piece.endswith(b"\n") for piece in pieces)
    assert await pair.breaker() == "closed"


@pytest.mark.parametrize(
    "rest",
    [b"", b'8\r\ndata: {"', chunk(b'data: {"half"'), b"zz\r\n", b"\x00\x01"],
    ids=["closed", "half a chunk", "half an event", "wrong chunk", "garbage"],
)
async def test_replicas_that_always_break_off_are_left_alone_though_each_stream_began(make_pair, rest):
    pair = await make_pair(says(STREAM + chunk(EVENT) + rest), breaker={"failures": 3, "open_s": 600})
    broken = []
    for _ in range(6):
        both = await asyncio.gather(pair.chat(stream=True), pair.chat(stream=True))
        broken += [said.text for said in both if "expert_died" in said.text]
        assert all(said.status_code == 200 for said in both)
        assert sum("[DONE]" in said.text for said in both) >= 1, "the other replica's clients see no error"
        state = await pair.breaker()
        while state == "closed" and len(broken) < 3 and not await is_up(pair):
            pass
    assert (state, len(broken)) == ("open", 3)
    for text in broken:
        assert text.startswith(EVENT.decode())
        assert "half" not in text
        assert json.loads(text.splitlines()[-2].removeprefix("data: "))["error"]["type"] == "server_error"
    assert pair.further == 0, "nothing is asked again once a byte has come"


async def is_up(pair: Pair) -> bool:
    """Return whether the gateway has found out that the rogue is still healthy, which a broken stream made it ask."""
    report = (await pair.client.get("/ready")).json()["experts"]["general"]["replicas"][0]
    return bool(report["state"] == "up")


ENDLESS = {
    "silence": hangs(),
    "half a head": hangs(b"HTTP/1.1 200 OK\r\ncontent-le"),
    "drip of a head": drips(b"HTTP/1.1 200 OK\r\n", again=b"x: y\r\n"),
    "drip of a body": drips(answer(WHOLE, length=10**6), again=b" "),
}


@pytest.mark.parametrize("behave", ENDLESS.values(), ids=ENDLESS)
async def test_what_never_ends_ends_at_the_limit_and_counts(make_pair, behave):
    pair = await make_pair(behave, request_timeout_s=0.2)
    said = await pair.chat()
    assert (said.status_code, said.json()["error"]["code"]) == (504, "timeout")
    assert await pair.breaker() == "open"
    assert "from the other" in (await pair.chat()).text
    assert pair.further == 0, "there was no time left"


async def test_a_stream_that_never_ends_ends_at_the_limit(make_pair):
    pair = await make_pair(drips(STREAM, again=chunk(EVENT)), request_timeout_s=0.2)
    said = await pair.chat(stream=True)
    assert said.text.startswith(EVENT.decode())
    assert '"code":"timeout"' in said.text
    assert await pair.breaker() == "closed", "it was slow, but there"


async def test_a_stream_that_falls_silent_counts(make_pair):
    pair = await make_pair(hangs(STREAM + chunk(EVENT)), request_timeout_s=0.2)
    assert '"code":"timeout"' in (await pair.chat(stream=True)).text
    assert await pair.breaker() == "open"


async def test_clients_that_wait_for_less_say_nothing_about_the_replica(make_pair):
    pair = await make_pair(hangs())
    said = await pair.chat(limit="0.1")
    assert (said.status_code, await pair.breaker()) == (504, "closed")
    assert "from the other" in (await pair.chat()).text
    pair.rogue.arrived.clear()
    leaving = asyncio.create_task(pair.chat())
    await pair.rogue.arrived.wait()
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await pair.logged(499)
    assert await pair.breaker() == "closed"


@pytest.mark.parametrize("behave", [hangs(), hangs(STREAM), hangs(b"HTTP/1.1 2")], ids=["silence", "head", "half"])
async def test_streams_that_do_not_begin_in_time_are_asked_elsewhere(make_pair, behave):
    pair = await make_pair(behave, retries={"first_byte_timeout_s": 0.1})
    said = await pair.chat(stream=True)
    assert said.text.endswith("data: [DONE]\n\n")
    assert (await pair.breaker(), pair.further) == ("open", 1)


async def test_only_streams_must_begin_in_time(make_pair):
    pair = await make_pair(hangs(), retries={"first_byte_timeout_s": 0.3})
    pair.fake.finish = asyncio.Event()
    asked = [asyncio.create_task(pair.chat()) for _ in range(2)]  # one of them at the other replica
    await pair.rogue.arrived.wait()
    await asyncio.to_thread(pair.fake.arrived.wait)
    for task in asked:  # a stream that comes later has been given up long ago
        assert not task.done()
    assert "[DONE]" in (await pair.chat(stream=True)).text
    pair.fake.finish.set()
    (whole,), _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    assert "from the other" in whole.result().text
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)


async def test_nobody_in_time_is_a_timeout_that_says_who(make_pair):
    pair = await make_pair(hangs(), retries={"first_byte_timeout_s": 0.05})
    pair.fake.script = asyncio.Queue()
    said = await pair.chat(stream=True)
    assert (said.status_code, said.json()["error"]["code"]) == (504, "expert_down")
    assert said.json()["error"]["message"].count("sent nothing in time") == 2


async def test_a_line_without_an_end_is_not_kept_in_memory(make_pair, monkeypatch):
    monkeypatch.setattr("largeforge.gateway.proxy.MOST_LINE_BYTES", 1000)
    pair = await make_pair(hangs(STREAM + chunk(b"data: " + b"x" * 900), chunk(b"y" * 900)), request_timeout_s=0.3)
    said = await pair.chat(stream=True)
    assert said.text.startswith("data: " + "x" * 900 + "y" * 900)
    assert '"code":"timeout"' in said.text


async def test_a_client_that_leaves_while_it_asks_for_its_route_is_logged_as_such(make_pair):
    pair = await make_pair(hangs())
    url = pair.client.base_url
    _, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(b"POST /v1/route HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
    await writer.drain()
    writer.close()
    assert (await pair.logged(499))["path"] == "/v1/route"
