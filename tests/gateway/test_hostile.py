"""Clients that send what is no request, or may be read in two ways: a clear refusal, and nothing of it goes further."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.gateway.conftest import gateway_file
from tests.gateway.raw import rest
from tests.gateway.rogues import Rogue, answer, running, says

BODY = b'{"messages": [{"role": "user", "content": "hi"}]}'
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
LINE = b"POST /v1/chat/completions HTTP/1.1\r\n"
ANSWER = b'{"object": "chat.completion"}'
PASSED_ON = {b"host", b"content-length", b"content-type", b"accept", b"x-request-id", b"x-request-timeout"}
LAST = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
MOST_RSS_KIB = 200_000
MANY = 10_000
MOST_KIB_EACH = 24
BEGINNINGS = (b"", b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n",
              b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")  # fmt: skip


class Target:
    """A gateway process before a server that records the bytes it gets."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, rogue: Rogue):
        self.process, self.url, self.rogue = process, url, rogue
        self._address = httpx.URL(url).host, httpx.URL(url).port

    def connect(self) -> socket.socket:
        client = socket.create_connection(self._address)
        client.settimeout(10)
        return client

    def say(self, *parts: bytes) -> tuple[list[int], bytes]:
        """Send bytes and a last request; read until the gateway closes, and return the statuses and all."""
        with self.connect() as client:
            try:
                for part in (*parts, LAST):
                    client.sendall(part)
            except OSError:
                pass  # it has closed, and said why
            got = rest(client)
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", got)], got

    def is_well(self) -> None:
        """Check that others are answered, and that the process has not grown."""
        assert httpx.post(self.url + "/v1/chat/completions", content=BODY).status_code == 200
        assert self.process.poll() is None
        assert self.rss_kib() < MOST_RSS_KIB

    def rss_kib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0])


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    loop, started, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    rogues = []

    async def serve() -> None:
        async with running(says(answer(ANSWER), closes=False)) as rogue:
            rogues.append(rogue)
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    started.wait()
    path = tmp_path_factory.mktemp("hostile") / "gateway.json"
    path.write_text(gateway_file({"general": rogues[0].url}, health_interval_s=60).model_dump_json())
    words = [sys.executable, "-m", "largeforge.gateway", "--config", str(path)]
    with path.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log)
    assert process.stdout
    with process.stdout:
        yield Target(process, json.loads(process.stdout.readline())["url"], rogues[0])
        process.terminate()
        assert process.wait(60) == 0
    assert "Traceback" not in path.with_suffix(".log").read_text()
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


def post(*head: bytes, body: bytes = BODY) -> bytes:
    """A request with a length; `head` are further lines."""
    lines = b"".join(line + b"\r\n" for line in (b"host: x", *head, b"content-length: %d" % len(body)))
    return LINE + lines + b"\r\n" + body


def raw(*head: bytes, body: bytes = b"") -> bytes:
    """A request with these lines only."""
    return LINE + b"".join(line + b"\r\n" for line in (b"host: x", *head)) + b"\r\n" + body


def chunked(body: bytes) -> bytes:
    return raw(b"transfer-encoding: chunked", body=body)


LENGTH = b"content-length: %d" % len(BODY)
REFUSED = {
    "length and chunks": raw(LENGTH, b"transfer-encoding: chunked", body=CHUNKS),
    "chunks and length": raw(b"transfer-encoding: chunked", b"content-length: 3", body=CHUNKS),
    "two lengths": post(b"content-length: 3"),
    "one length twice": post(LENGTH),
    "a list of lengths": raw(b"content-length: 5, 5", body=BODY),
    "a length with a sign": raw(b"content-length: +49", body=BODY),
    "a negative length": raw(b"content-length: -1", body=BODY),
    "a hexadecimal length": raw(b"content-length: 0x31", body=BODY),
    "a length without end": raw(b"content-length: 99999999999999999999999", body=BODY),
    "an empty length": raw(b"content-length:", body=BODY),
    "identity": post(b"transfer-encoding: identity"),
    "identity, then chunked": raw(b"transfer-encoding: identity", b"transfer-encoding: chunked", body=CHUNKS),
    "chunked, then identity": raw(b"transfer-encoding: chunked, identity", body=CHUNKS),
    "gzip, chunked": raw(b"transfer-encoding: gzip, chunked", body=CHUNKS),
    "xchunked": raw(b"transfer-encoding: xchunked", body=CHUNKS),
    "quoted": raw(b'transfer-encoding: "chunked"', body=CHUNKS),
    "vertical tab": raw(b"transfer-encoding: \x0bchunked", body=CHUNKS),
    "chunks in HTTP/1.0": chunked(CHUNKS).replace(b"HTTP/1.1", b"HTTP/1.0"),
    "bare line feeds": post().replace(b"\r\n", b"\n"),
    "one bare line feed": post(b"x: y\ntransfer-encoding: chunked"),
    "one bare carriage return": post(b"x: y\rtransfer-encoding: chunked"),
    "NUL in a value": post(b"x: a\0b"),
    "NUL in a name": post(b"x\0y: a"),
    "folded": post(b"x: a", b" b"),
    "folded encoding": raw(b"transfer-encoding:", b" chunked", body=CHUNKS),
    "space before the colon": raw(b"transfer-encoding : chunked", body=CHUNKS),
    "no colon": post(b"abc"),
    "no name": post(b": abc"),
    "no host": post().replace(b"host: x\r\n", b""),
    "two hosts": post(b"host: y"),
    "space in the path": post().replace(b"completions ", b"completions /evil "),
    "line feed in the path": post().replace(b"completions ", b"completions\n "),
    "bytes in the path": post().replace(b"completions ", b"\xff\xfe "),
    "no path": b"GET evil HTTP/1.1\r\nhost: x\r\n\r\n",
    "another machine": b"CONNECT evil:443 HTTP/1.1\r\nhost: x\r\n\r\n",
    "HTTP/2.0": b"GET /health HTTP/2.0\r\nhost: x\r\n\r\n",
    "HTTP/9.9": b"GET /health HTTP/9.9\r\nhost: x\r\n\r\n",
    "HTTP/0.9": b"GET /health\r\n\r\n",
    "preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "all bytes": bytes(range(256)) * 8,
    "no number of a chunk": chunked(b"xyz\r\n" + BODY),
    "a negative chunk": chunked(b"-1\r\n" + BODY),
    "a chunk without end": chunked(b"f" * 20 + b"\r\n" + BODY),
    "a chunk that is longer than it says": chunked(b"5\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a bare line feed after a chunk's size": chunked(CHUNKS.replace(b"\r\n", b"\n", 1)),
    "a line feed in a chunk's extension": chunked(CHUNKS.replace(b"\r\n", b";a\nb\r\n", 1)),
    "too many headers": post(*[b"a: b"] * 20_000),
    "a long header": post(b"a: " + b"b" * 100_000),
    "a long path": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
    "empty lines without end": b"\r\n" * 50_000,
    "deep JSON": post(body=b'{"messages": ' + b"[" * 1_000_000),
    "bad UTF-8": post(body=BODY.replace(b"hi", b"\xff")),
    "half a surrogate": post(body=BODY.replace(b"hi", b"\\ud800")),
    "a second document": post(body=BODY + b"\r\n\r\nPOST /evil HTTP/1.1\r\n\r\n"),
    "packed": post(b"content-encoding: gzip", body=b"\x1f\x8b\x08" + bytes(50)),
    "chunks over the limit": chunked((b"100000\r\n" + bytes(0x100000) + b"\r\n") * 9),
    "a line in the request's id": post(b"x-request-id: a", b"", b"GET /evil HTTP/1.1"),
    "wrong percent encoding": post().replace(b"completions ", b"completions%zz%2 "),
    "encoded lines in the path": post().replace(b"completions ", b"completions%0d%0ax:y "),
    "no deadline": post(b"x-request-timeout: soon"),
}


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED)
def test_what_is_no_request_is_refused_and_goes_no_further(target, sent):
    target.rogue.seen.clear()
    statuses, said = target.say(sent)
    assert 400 <= statuses[0] < 500, said[:300]
    body = said.partition(b"\r\n\r\n")[2]
    assert statuses[0] == 431 or body.startswith(b'{"error":{"message":'), said[:300]
    assert len(said) < 5000, "it does not say back all that was sent"
    assert target.rogue.seen == []
    target.is_well()


ODD = {
    "lines before": b"\r\n\r\n" + post(),
    "a tab": raw(b"transfer-encoding:\tchunked", body=CHUNKS),
    "an extension of a chunk": chunked(CHUNKS.replace(b"\r\n", b';a="b"\r\n', 1)),
    "a trailer": chunked(CHUNKS[:-2] + b"content-type: evil/trailer\r\nhost: evil\r\nx-request-timeout: 0\r\n\r\n"),
    "encoded lines in the id": post(b"x-request-id: a%0d%0aevil: 1"),
    "bytes in the id": post(b"x-request-id: \xff\xfe"),
    "a long id": post(b"x-request-id: " + b"a" * 60_000),
    "bytes in what is accepted": post(b"accept: \xff\xfe"),
    "two deadlines": post(b"x-request-timeout: 5", b"x-request-timeout: soon"),
    "many headers": post(*[b"a: b"] * 8000),
    "hop by hop": post(b"connection: keep-alive, authorization", b"te: trailers", b"authorization: Bearer secret"),
    "an upgrade to HTTP/2": post(b"connection: Upgrade, HTTP2-Settings", b"upgrade: h2c", b"http2-settings: AAMAAABk"),
    "an upgrade in chunks": raw(b"connection: upgrade", b"upgrade: x", b"transfer-encoding: chunked", body=CHUNKS),
    "a WebSocket by POST": post(b"connection: upgrade", b"upgrade: websocket", b"sec-websocket-version: 13"),
    "in HTTP/1.0": post().replace(b"HTTP/1.1", b"HTTP/1.0"),
    "not continued": post(b"expect: 100-continue"),
}


@pytest.mark.parametrize("is_dripped", [False, True], ids=["at once", "in pieces"])
@pytest.mark.parametrize("sent", ODD.values(), ids=ODD)
def test_what_is_odd_reaches_the_server_in_one_way_only(target, sent, is_dripped):
    target.rogue.seen.clear()
    pieces = [sent[start : start + 701] for start in range(0, len(sent), 701)] if is_dripped else [sent]
    statuses, said = target.say(*pieces)
    assert 200 in statuses
    assert ANSWER in said
    (got,) = target.rogue.seen
    head, _, body = got.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    names = [line.partition(b": ")[0] for line in lines]
    assert first == LINE.strip()
    assert set(names) <= PASSED_ON
    assert len(set(names)) == len(names)
    assert b"content-length: %d" % len(body) in lines
    assert not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", b"".join(lines))
    for secret in (b"evil", b"secret", b"soon"):
        assert secret not in head
    assert json.loads(body) == {**json.loads(BODY), "model": "general"}
    target.is_well()


def test_requests_sent_at_once_are_answered_in_order_and_garbage_after_them_ends_the_connection(target):
    missing = b"GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n"
    assert target.say(post(), missing, post())[0] == [200, 404, 200, 200]
    statuses, said = target.say(post() + missing + b"\0garbage\r\n\r\n")
    assert statuses == [200, 404], "what was asked before is answered"
    assert said.count(ANSWER) == 1
    statuses, _ = target.say(post() + raw(LENGTH, b"transfer-encoding: chunked", body=CHUNKS))
    assert statuses == [200], "no refusal is taken for the answer to what came before"
    assert target.say(post() + LINE + b"host: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n")[0] == [200]


def test_more_requests_at_once_than_anyone_needs_are_not_kept(target):
    statuses, _ = target.say(post() * 5000)
    assert 0 < len(statuses) < 500
    assert set(statuses) == {200}
    target.is_well()


@pytest.mark.parametrize("filler", [b"1;" + b"a" * 65536, b"0\r\nx: " + b"y" * 65536, b"0\r\n" + b"x: y\r\n" * 10000],
                         ids=["extension", "trailer", "trailers"])  # fmt: skip
def test_chunks_with_more_around_them_than_in_them_are_refused(target, filler):
    with target.connect() as client:
        client.sendall(raw(b"transfer-encoding: chunked") + filler)
        sent = 0
        try:
            while sent < 64 * 2**20:
                sent += client.send(filler[10:] if filler[:1] == b"1" else b"x: y\r\n" * 10000)
        except OSError:
            pass
        assert sent < 64 * 2**20
    target.is_well()


@pytest.mark.parametrize(
    "head",
    [b"", b"sec-websocket-version: 3\r\n", b"sec-websocket-version: 13\r\nsec-websocket-key: a\r\n",
     b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\ncontent-length: 5\r\n"],
)  # fmt: skip
def test_handshakes_that_are_none_are_refused(target, head):
    start = b"GET /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    statuses, _ = target.say(start + head + b"\r\nhello")
    assert 400 <= statuses[0] < 500
    target.is_well()


def test_ten_thousand_connections_that_never_finish_a_request_do_not_stop_service(target):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < MANY + 1024:
        pytest.skip(f"this system lets a process open only {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    before = target.rss_kib()
    held = []
    try:
        with httpx.Client(base_url=target.url) as client:
            for number in range(MANY):
                held.append(target.connect())
                held[-1].sendall(BEGINNINGS[number % len(BEGINNINGS)])
                if number % 500 == 0:
                    assert client.post("/v1/chat/completions", content=BODY).status_code == 200
        for _ in range(20):
            assert httpx.post(target.url + "/v1/chat/completions", content=BODY).status_code == 200
        poll = select.poll()
        for connection in held:
            poll.register(connection, select.POLLIN)
        assert not poll.poll(0), "all are still open, and none was told anything"
        each = (target.rss_kib() - before) / MANY
        print(f"{MANY} connections that never finish a request: {each:.1f} KiB of the gateway's memory each")
        assert each < MOST_KIB_EACH
    finally:
        for connection in held:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert httpx.post(target.url + "/v1/chat/completions", content=BODY).status_code == 200
