"""Sockets that a service manager hands over: whose they may be, and one gateway after another on the same one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from largeforge import operators
from largeforge.errors import ServingError
from largeforge.gateway import activation
from tests.gateway.authority import Authority

CHAT = {"messages": [{"role": "user", "content": "hi"}]}
PATH = "/v1/chat/completions"
TOKEN = {"LARGEFORGE_ADMIN_TOKEN": "a-token-of-both-gateways"}


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0), backlog=512) as found:
        yield found


def urls_of(fakes):
    return {name: running.url for name, running in fakes.items()}


def port_of(listener):
    return listener.getsockname()[1]


class Load:
    """Clients that ask again and again, on connections that they keep and on new ones; none may ever fail."""

    def __init__(self, url, context=True):
        self._url, self._context = url, context
        self._is_over = asyncio.Event()
        self.answers = 0
        self._tasks = [
            asyncio.create_task(work(stream))
            for work in (self._on_kept, self._on_new)
            for stream in (False, True, False)
        ]

    async def more(self, count):
        """Wait for further answers."""
        until = self.answers + count
        while self.answers < until:
            for task in self._tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.01)

    async def end(self):
        self._is_over.set()
        await asyncio.gather(*self._tasks)

    async def _on_kept(self, stream):
        async with httpx.AsyncClient(verify=self._context, trust_env=False, timeout=60) as client:
            while not self._is_over.is_set():
                await self._ask(client, stream)

    async def _on_new(self, stream):
        while not self._is_over.is_set():
            async with httpx.AsyncClient(verify=self._context, trust_env=False, timeout=60) as client:
                await self._ask(client, stream)

    async def _ask(self, client, stream):
        answer = await client.post(self._url + PATH, json={**CHAT, "stream": stream})
        assert answer.status_code == 200, answer.text
        if stream:
            assert answer.text.endswith("data: [DONE]\n\n"), answer.text
        else:
            assert answer.json()["choices"][0]["message"]["content"] == "I am general"
        self.answers += 1


@pytest.mark.parametrize(("workers", "is_tls"), [(1, False), (2, False), (1, True)])
async def test_one_gateway_takes_over_from_another_without_a_failed_request(
    start, threaded_fakes, listener, events, tmp_path, workers, is_tls
):
    context, tls = True, {}
    if is_tls:
        authority = Authority(tmp_path)
        pair = authority.issue()
        tls = {"tls": {"certificate": pair.certificate, "key": pair.key}}
        context = ssl.create_default_context(cafile=authority.ca)
    support = threaded_fakes["support"]
    support.fake.script = asyncio.Queue()
    support.do(lambda: support.fake.script.put_nowait(events.event("one")))

    def begin():
        return start(
            urls_of(threaded_fakes), listeners=[listener], environment=TOKEN, port=port_of(listener), workers=workers,
            **tls,
        )  # fmt: skip

    first = await asyncio.to_thread(begin)
    load = Load(first.url, context)
    await load.more(20)
    body = {**CHAT, "model": "support", "stream": True}
    async with (
        httpx.AsyncClient(verify=context, trust_env=False, timeout=60) as client,
        client.stream("POST", first.url + PATH, json=body) as long,
    ):
        received = long.aiter_raw()
        assert await anext(received) == events.event("one")
        second = await asyncio.to_thread(begin)
        assert second.url == first.url
        await load.more(20)
        first.child.send_signal(signal.SIGTERM)
        await load.more(60)
        assert first.child.poll() is None  # it still gives the long answer
        for piece in (events.done, None):
            support.do(lambda piece=piece: support.fake.script.put_nowait(piece))
        assert b"".join([piece async for piece in received]) == events.done
    code, _, err = await asyncio.to_thread(first.finish)
    assert (code, "Traceback" in err) == (0, False), err
    await load.more(20)
    await load.end()
    assert second.child.poll() is None


async def test_the_last_answers_of_a_gateway_say_so(start, threaded_fakes, listener):
    general = threaded_fakes["general"]
    general.fake.finish = asyncio.Event()
    process = await asyncio.to_thread(
        lambda: start(urls_of(threaded_fakes), listeners=[listener], port=port_of(listener))
    )
    async with (
        httpx.AsyncClient(base_url=process.url, trust_env=False, timeout=30) as client,
        httpx.AsyncClient(base_url=process.url, trust_env=False, timeout=30) as idle,
    ):
        assert "connection" not in (await idle.get("/health")).headers
        asking = asyncio.create_task(client.post(PATH, json=CHAT))
        await asyncio.to_thread(general.fake.arrived.wait)
        process.child.send_signal(signal.SIGTERM)
        while "connection" not in (last := await idle.get("/health")).headers:
            pass  # it has not seen the signal yet
        assert last.headers["connection"] == "close"
        general.do(general.fake.finish.set)
        answer = await asking
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    assert (await asyncio.to_thread(process.finish))[0] == 0


async def test_a_websocket_ends_after_its_answer_and_an_idle_one_at_once(process, threaded_fakes, events):
    support = threaded_fakes["support"]
    support.fake.script = asyncio.Queue()
    url = process.url.replace("http", "ws") + PATH
    async with connect(url, proxy=None) as busy, connect(url, proxy=None) as idle:
        await busy.send(json.dumps({**CHAT, "model": "support"}))
        support.do(lambda: support.fake.script.put_nowait(events.event("one")))
        assert "one" in await busy.recv()
        process.child.send_signal(signal.SIGTERM)
        await idle.wait_closed()
        assert idle.close_code == 1012
        for piece in (events.event("two"), events.done, None):
            support.do(lambda piece=piece: support.fake.script.put_nowait(piece))
        assert "two" in await busy.recv()
        assert json.loads(await busy.recv())["type"] == "done"
        await busy.wait_closed()
        assert busy.close_code == 1012
    assert (await asyncio.to_thread(process.finish))[0] == 0


def endless(process, fake, events):
    """Begin a stream that does not end, and return its lines."""
    fake.fake.script = asyncio.Queue()
    fake.do(lambda: fake.fake.script.put_nowait(events.event("one")))
    body = {**CHAT, "model": "general", "stream": True}
    return httpx.stream("POST", process.url + PATH, json=body, timeout=60, trust_env=False)


@pytest.mark.parametrize("workers", [1, 2])
def test_answers_have_the_time_that_is_set(start, threaded_fakes, events, workers):
    process = start(urls_of(threaded_fakes), workers=workers, drain_timeout_s=1)
    with endless(process, threaded_fakes["general"], events) as answer:
        received = answer.iter_raw()
        next(received)
        process.child.send_signal(signal.SIGTERM)
        assert b'"code":"shutting_down"' in b"".join(received)
    code, _, err = process.finish()
    assert (code, "Traceback" in err) == (0, False), err


@pytest.mark.parametrize("workers", [1, 2])
def test_the_second_signal_ends_it_at_once(start, threaded_fakes, events, workers):
    process = start(urls_of(threaded_fakes), workers=workers, drain_timeout_s=600)
    with endless(process, threaded_fakes["general"], events) as answer:
        received = answer.iter_raw()
        next(received)
        process.child.send_signal(signal.SIGTERM)
        with pytest.raises(httpx.ConnectError):
            while True:
                httpx.get(process.url + "/health", trust_env=False, headers={"connection": "close"})
        assert process.child.poll() is None
        process.child.send_signal(signal.SIGTERM)
        assert process.finish()[0] == 0


def test_a_signal_to_all_processes_lets_answers_finish(start, threaded_fakes, events):
    process = start(urls_of(threaded_fakes), workers=2)
    general = threaded_fakes["general"]
    children = Path(f"/proc/{process.child.pid}/task/{process.child.pid}/children").read_text().split()
    with endless(process, general, events) as answer:
        received = answer.iter_raw()
        next(received)
        for pid in (process.child.pid, *map(int, children)):
            os.kill(pid, signal.SIGTERM)
        with pytest.raises(httpx.ConnectError):
            while True:
                httpx.get(process.url + "/health", trust_env=False, headers={"connection": "close"})
        for piece in (events.done, None):
            general.do(lambda piece=piece: general.fake.script.put_nowait(piece))
        assert b"".join(received) == events.done
    assert process.finish()[0] == 0


def test_another_address_than_that_of_the_recipe_is_refused(start, threaded_fakes, listener):
    process = start(urls_of(threaded_fakes), listeners=[listener], port=1234)
    code, out, err = process.finish()
    assert (code, out) == (1, "")
    assert f"gateway.port = 1234: the socket that was handed over listens on 127.0.0.1:{port_of(listener)}" in err
    process = start(urls_of(threaded_fakes), listeners=[listener], host="0.0.0.0", workers=2)
    code, _, err = process.finish()
    assert (code, "gateway.host = '0.0.0.0'" in err) == (1, True), err


def environment(**changes):
    return {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", **changes}


@pytest.mark.parametrize("said", [{}, environment(LISTEN_PID="1"), environment(LISTEN_FDS="0")])
def test_what_is_for_another_process_is_left_alone(said):
    assert activation.inherited("127.0.0.1", 0, said) is None
    assert said == {}


def test_a_gateway_that_ends_leaves_the_token_of_its_successor(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    first, second = operators.keep(8080), operators.keep(8080)
    first.__enter__()
    token = second.__enter__()
    first.__exit__(None, None, None)
    assert operators.kept(8080) == token
    second.__exit__(None, None, None)
    assert operators.kept(8080) == ""


@pytest.mark.parametrize(
    ("kind", "listens", "words"),
    [
        ((socket.AF_INET, socket.SOCK_DGRAM), False, "not one of TCP"),
        ((socket.AF_UNIX, socket.SOCK_STREAM), True, "not one of TCP"),
        ((socket.AF_INET, socket.SOCK_STREAM), False, "does not listen"),
    ],
)
def test_what_is_no_listening_socket_is_refused(kind, listens, words, monkeypatch):
    with closing(socket.socket(*kind)) as given:
        if listens:
            given.bind("")
            given.listen()
        monkeypatch.setattr(activation, "FIRST_DESCRIPTOR", given.fileno())
        with pytest.raises(ServingError, match=words):
            activation.inherited("127.0.0.1", 0, environment())


def test_one_of_several_is_chosen_by_its_name(start, threaded_fakes, listener):
    with socket.create_server(("127.0.0.1", 0)) as other:
        for workers in (1, 2):
            process = start(
                urls_of(threaded_fakes), listeners=[other, listener], workers=workers,
                environment={"LISTEN_FDNAMES": "metrics:gateway"},
            )  # fmt: skip
            assert httpx.URL(process.url).port == port_of(listener)
            process.child.kill()
        code, _, err = start(urls_of(threaded_fakes), listeners=[other, listener]).finish()
    assert (code, "2 sockets were handed over" in err) == (1, True), err
