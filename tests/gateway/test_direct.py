"""Completions that go from a connection to the proxy without ASGI are answered as those that go through it."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import socket
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from largeforge.gateway import proxy
from largeforge.gateway.app import create_app
from largeforge.gateway.clients.direct import Direct
from tests.gateway.conftest import FakeVllm, Running, gateway_file, serve
from tests.gateway.raw import rest

PATH = "/v1/chat/completions"


class Watched:
    """A gateway whose log lines are kept, and which ways requests took."""

    def __init__(self, running: Running, fake: FakeVllm):
        self.running, self.fake = running, fake
        self.lines: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.ways: list[str] = []

    def connect(self) -> socket.socket:
        url = httpx.URL(self.running.url)
        found = socket.create_connection((url.host, url.port))
        found.settimeout(10)
        return found

    async def line(self) -> dict[str, Any]:
        return await asyncio.wait_for(self.lines.get(), 10)


@pytest.fixture
async def watched(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    fake = FakeVllm("I am general")
    expert = await serve(fake.app)
    log: Callable[[str, Any], None] = lambda _, fields: gateway.lines.put_nowait(fields)  # noqa: E731
    app = create_app(gateway_file({"general": expert.url}), registry=CollectorRegistry(), log=log)
    gateway = Watched(await serve(app), fake)
    answer = proxy.Proxy.answer

    async def noted(self: proxy.Proxy, link: Any) -> None:
        gateway.ways.append(type(link).__name__)
        await answer(self, link)

    monkeypatch.setattr(proxy.Proxy, "answer", noted)
    yield gateway
    await asyncio.gather(gateway.running.stop(), expert.stop())


def request(content: bytes, *headers: str, path: str = PATH) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: x", f"content-length: {len(content)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def chunked(content: bytes, *headers: str, path: str = PATH) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: x", "transfer-encoding: chunked", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)


def chat(**fields: Any) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": "hi"}], **fields}).encode()


def read(client: socket.socket) -> tuple[int, dict[str, str], bytes]:
    answer = http.client.HTTPResponse(client)
    answer.begin()
    headers = {name.lower(): value for name, value in answer.getheaders()}
    return answer.status, headers, answer.read()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (chat(), 200),
        (chat(model="general", n=2), 200),
        (chat(model="nobody"), 200),
        (chat(stream=True), 200),
        (chat(stream=True, stream_options={"include_usage": True}), 200),
        (b"{", 400),
        (b'{"messages": []}', 400),
        (b'{"model": 1, "messages": [{}]}', 400),
    ],
)
async def test_both_ways_answer_alike(watched, body, status):
    found = []
    for written in (request, chunked):
        with watched.connect() as client:
            client.sendall(written(body, "x-request-id: r-1"))
            status_found, headers, content = await asyncio.to_thread(read, client)
            assert headers.pop("date").endswith("GMT")
            found.append((status_found, headers, content))
            said = await watched.line()
            assert said["status"] == status
            assert said["bytes"] == len(found[-1][2])
    assert watched.ways == ["Direct", "AsgiLink"]
    assert found[0] == found[1]
    assert found[0][0] == status
    assert found[0][1]["x-request-id"] == "r-1"


@pytest.mark.parametrize(
    ("sent", "way"),
    [
        (request(chat(), path=PATH + "?x=1"), "AsgiLink"),
        (request(chat(), "expect: 100-continue"), "AsgiLink"),
        (request(chat(), "connection: upgrade", "upgrade: h2c"), "AsgiLink"),
        (request(chat()).replace(b"HTTP/1.1", b"HTTP/1.0"), "AsgiLink"),
        (request(chat(), "connection: close"), "Direct"),
    ],
    ids=["query", "expect", "upgrade", "HTTP/1.0", "last request"],
)
async def test_what_is_not_plain_goes_by_asgi(watched, sent, way):
    with watched.connect() as client:
        client.sendall(sent)
        got = await asyncio.to_thread(client.recv, 65536)
        if b" 100 Continue" in got:
            got = await asyncio.to_thread(client.recv, 65536)
        assert b" 200 OK" in got
    assert watched.ways == [way]


async def test_requests_sent_ahead_are_answered_in_order(watched):
    sent = [request(chat(), f"x-request-id: r-{number}") for number in range(5)]
    with watched.connect() as client:
        client.sendall(b"".join((*sent, request(chat(), "x-request-id: r-5", "connection: close"))))
        got = await asyncio.to_thread(rest, client)
    assert re.findall(rb"x-request-id: (r-\d)\r\n", got) == [b"r-%d" % number for number in range(6)]
    assert len(re.findall(rb"HTTP/1\.1 200 OK\r\n", got)) == got.count(b"I am general") == 6


async def test_a_body_may_come_byte_by_byte(watched):
    with watched.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request(chat(user="Zoë")):
            client.sendall(bytes([byte]))
            await asyncio.sleep(0)
        status, _, _ = await asyncio.to_thread(read, client)
    assert status == 200
    assert json.loads(watched.fake.bodies[-1])["user"] == "Zoë"
    assert watched.ways == ["Direct"]


async def test_the_last_answer_of_a_connection_closes_it(watched):
    with watched.connect() as client:
        client.sendall(request(chat(), "connection: close"))
        answer = await asyncio.to_thread(rest, client)
    assert b"\r\nconnection: close\r\n" in answer
    assert answer.endswith(b"}")


@pytest.mark.parametrize("sent", [request(chat())[:-5], request(chat(), "x-request-timeout: 60")])
async def test_a_client_that_leaves_is_logged(watched, sent):
    watched.fake.finish = asyncio.Event()
    with watched.connect() as client:
        client.sendall(sent)
        if sent.endswith(b"}"):
            await asyncio.to_thread(watched.fake.arrived.wait)
        else:
            await asyncio.sleep(0.05)
    said = await watched.line()
    assert (said["status"], said["error"]) == (499, "client_closed")
    if sent.endswith(b"}"):
        await asyncio.wait_for(watched.fake.cancelled.wait(), 10)


async def test_a_connection_that_is_idle_for_too_long_is_closed(watched):
    watched.running.server.config.timeout_keep_alive = 1
    with watched.connect() as busy, watched.connect() as idle:
        idle.sendall(request(chat()))
        assert (await asyncio.to_thread(read, idle))[0] == 200
        watched.fake.finish = asyncio.Event()
        busy.sendall(request(chat()))
        assert await asyncio.to_thread(rest, idle) == b""
        watched.fake.finish.set()
        assert (await asyncio.to_thread(read, busy))[0] == 200, "who waits for an answer is not idle"


async def test_a_header_can_never_become_two():
    exchange = SimpleNamespace(request_id="r")
    client = SimpleNamespace(url=PATH.encode(), headers=[], parser=SimpleNamespace(should_keep_alive=lambda: True))
    client.server_state = SimpleNamespace(default_headers=[])
    log = SimpleNamespace(begin=lambda given: exchange)
    direct = Direct(client, None, {}, log)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="more than one line"):
        await direct.start(200, [(b"x-largeforge-route", b"a\r\nset-cookie: b")])
