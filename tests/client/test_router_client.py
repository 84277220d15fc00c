"""RouterClient and AsyncRouterClient: what is retried, how long, and what is said when it fails.

Every case runs with both clients, against a scripted transport and a clock that only sleeping
(or a scripted reply) moves.
"""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from typing import Any

import httpx
import pytest

from largeforge.client import Answer, AsyncRouterClient, RequestFailed, Retry, RouterClient
from largeforge.errors import ClientError

URL = "http://gateway.test:8080"
OK = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "support",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Soon."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}
HEADERS = {
    "x-largeforge-expert": "support",
    "x-largeforge-model": "registry:support/1",
    "x-largeforge-lock": "abc",
    "x-request-id": "id-1",
}


def ok(**headers: str) -> httpx.Response:
    return httpx.Response(200, json=OK, headers={**HEADERS, **headers})


def error(status: int, message: str = "no", **headers: str) -> httpx.Response:
    body = {"error": {"message": message, "type": "server_error", "param": None, "code": "expert_down"}}
    return httpx.Response(status, json=body, headers={"x-request-id": "id-1", **headers})


class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body in pieces; an exception among them is raised, a function is called."""

    def __init__(self, *pieces: Any):
        self._pieces = pieces

    def __iter__(self):
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            if callable(piece):
                piece()
            else:
                yield piece

    async def __aiter__(self):
        for piece in self:
            yield piece


class Scripted(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Replies in turn with responses, exceptions, or what functions return."""

    def __init__(self, *script: Any):
        self.script = list(script)
        self.requests: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        reply = self.script.pop(0)
        if callable(reply):
            reply = reply()
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.handle_request(request)

    def body(self, index: int = 0) -> Any:
        return json.loads(self.requests[index].content)


class Both:
    """One of the two clients behind one face, with a clock of its own."""

    def __init__(self, is_async: bool):
        self.is_async = is_async
        self.now = 100.0
        self.slept: list[float] = []
        self.transport = Scripted()

    def advance(self, seconds: float, reply: Any = None) -> Any:
        def action() -> Any:
            self.now += seconds
            return reply

        return action

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def _async_sleep(self, seconds: float) -> None:
        self._sleep(seconds)

    def _client(self, options: dict[str, Any]) -> Any:
        options = {"clock": lambda: self.now, "random": lambda: 1.0, **options}
        if self.is_async:
            return AsyncRouterClient(URL, transport=self.transport, sleep=self._async_sleep, **options)
        return RouterClient(URL, transport=self.transport, sleep=self._sleep, **options)

    def generate(self, *script: Any, ask: dict[str, Any] | None = None, **options: Any) -> Answer:
        self.transport = Scripted(*script)
        client = self._client(options)
        request = ask or {"messages": "hi"}
        if not self.is_async:
            with client:
                return client.generate(**request)

        async def run() -> Answer:
            async with client:
                return await client.generate(**request)

        return asyncio.run(run())

    def call(self, *script: Any, method: str, args: tuple[Any, ...] = (), **options: Any) -> Any:
        """Return what any other method returns."""
        self.transport = Scripted(*script)
        client = self._client({})
        if not self.is_async:
            with client:
                return getattr(client, method)(*args, **options)

        async def run() -> Any:
            async with client:
                return await getattr(client, method)(*args, **options)

        return asyncio.run(run())

    def models(self, *script: Any) -> Any:
        return self.call(*script, method="models")

    def hosts(self, *asks: tuple[Any, ...], **options: Any) -> list[str]:
        """Ask one client several times, each with a script of its own; return the hosts that were asked."""
        self.transport = Scripted(*(reply for ask in asks for reply in ask))
        client = self._client(options)
        if not self.is_async:
            with client:
                for _ in asks:
                    client.generate("hi")
        else:

            async def run() -> None:
                async with client:
                    for _ in asks:
                        await client.generate("hi")

            asyncio.run(run())
        return [request.url.host for request in self.transport.requests]

    def stream(self, *script: Any, num_pieces: int | None = None, **options: Any) -> tuple[list[str], Any]:
        """Return the pieces read (all, or the first few and then closed) and the stream."""
        self.transport = Scripted(*script)
        client = self._client(options)
        pieces: list[str] = []
        if not self.is_async:
            with client, client.stream("hi") as stream:
                for piece in stream:
                    pieces.append(piece)
                    if len(pieces) == num_pieces:
                        break
            return pieces, stream

        async def run() -> Any:
            async with client, client.stream("hi") as stream:
                async for piece in stream:
                    pieces.append(piece)
                    if len(pieces) == num_pieces:
                        break
            return stream

        return pieces, asyncio.run(run())


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def client(request, socket_enabled):
    return Both(request.param)


def test_answer_holds_text_and_where_it_came_from(client):
    answer = client.generate(client.advance(0.5, ok(**{"x-largeforge-fallback": "expert-down"})))
    assert answer == Answer(
        text="Soon.",
        expert="support",
        model="registry:support/1",
        usage=OK["usage"],
        request_id="id-1",
        fallback="expert-down",
        finish_reason="stop",
        latency_ms=500.0,
        lock="abc",
    )
    assert answer["text"] == "Soon."
    assert dict(answer)["expert"] == "support"
    assert list(dict(answer)) == list(Answer.__dataclass_fields__)
    with pytest.raises(KeyError):
        answer["keys"]


def test_request_is_what_openai_expects(client):
    ask = {"messages": "hi", "max_tokens": 5, "temperature": 0, "model": "support", "top_p": 0.5}
    client.generate(ok(), ask=ask, api_key="key")
    request = client.transport.requests[0]
    assert (request.method, str(request.url)) == ("POST", URL + "/v1/chat/completions")
    assert request.headers["authorization"] == "Bearer key"
    message = {"role": "user", "content": "hi"}
    assert client.transport.body() == {
        "model": "support",
        "messages": [message],
        "max_tokens": 5,
        "temperature": 0,
        "top_p": 0.5,
    }
    client.generate(ok())
    assert client.transport.body() == {"model": "auto", "messages": [message]}
    assert "authorization" not in client.transport.requests[0].headers


@pytest.mark.parametrize("failure", [429, 500, 502, 503, 504, httpx.ConnectError("x"), httpx.ReadError("x")])
def test_passing_failures_are_retried_with_growing_delays(client, failure):
    failures = [error(failure) if isinstance(failure, int) else failure for _ in range(3)]
    assert client.generate(*failures, ok()).text == "Soon."
    assert client.slept == [0.25, 0.5, 1.0]
    assert client.transport.body(0) == client.transport.body(3)


def test_jitter_takes_up_to_half_of_the_delay(client):
    client.generate(error(500), error(500), ok(), random=lambda: 0.0)
    assert client.slept == [0.125, 0.25]


def test_delay_is_bounded(client):
    client.generate(*[error(500)] * 3, ok(), retry=Retry(first_delay_s=3, max_delay_s=5))
    assert client.slept == [3, 5, 5]


def test_body_that_breaks_off_is_retried(client):
    broken = httpx.Response(200, headers=HEADERS, stream=Body(b'{"cho', httpx.RemoteProtocolError("cut")))
    assert client.generate(broken, ok()).text == "Soon."


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 422])
def test_the_callers_mistakes_are_not_retried(client, status):
    with pytest.raises(RequestFailed) as caught:
        client.generate(error(status, "'messages' is missing."))
    failure = caught.value
    assert (failure.status, failure.message, failure.code, failure.request_id) == (
        status,
        "'messages' is missing.",
        "expert_down",
        "id-1",
    )
    assert isinstance(failure, ClientError)
    assert str(failure) == f"'messages' is missing. (status {status}, request id-1)"
    assert client.slept == []


def test_gives_up_after_max_retries_with_the_last_error(client):
    with pytest.raises(RequestFailed) as caught:
        client.generate(error(500), error(503, "still down"), max_retries=1)
    assert (caught.value.status, caught.value.message) == (503, "still down")
    assert len(client.transport.requests) == 2


def test_unreachable_names_the_address(client):
    with pytest.raises(RequestFailed, match=r"Cannot reach http://gateway\.test:8080: refused\.") as caught:
        client.generate(httpx.ConnectError("refused"), max_retries=0)
    assert caught.value.status == 0


@pytest.mark.parametrize(
    ("headers", "delay"),
    [
        ({"retry-after": "3"}, 3),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "99999"}, 30),
        ({"retry-after": "Fri, 20 Nov 2026 10:00:07 GMT", "date": "Fri, 20 Nov 2026 10:00:00 GMT"}, 7),
        ({"retry-after": "Fri, 20 Nov 2026 09:00:00 GMT", "date": "Fri, 20 Nov 2026 10:00:00 GMT"}, 0),
        ({"retry-after": "soon"}, 0.25),
        ({"retry-after": "-5"}, 0.25),
        ({"retry-after": "²"}, 0.25),
    ],
)
def test_retry_after_is_honoured_within_reason(client, headers, delay):
    encoded = {name: value.encode() for name, value in headers.items()}
    assert client.generate(error(503, **encoded), ok()).text == "Soon."
    assert client.slept == [delay]


def test_deadline_is_for_all_attempts_together(client):
    with pytest.raises(RequestFailed) as caught:
        client.generate(client.advance(4, error(500)), client.advance(5.5, error(502)), ok(), timeout_s=10)
    assert caught.value.status == 502
    assert client.now < 110
    remaining = [request.extensions["timeout"]["read"] for request in client.transport.requests]
    assert remaining == [10, 5.75]


def test_wait_beyond_the_deadline_fails_at_once(client):
    with pytest.raises(RequestFailed) as caught:
        client.generate(error(503, **{"retry-after": "20"}), timeout_s=10)
    assert caught.value.status == 503
    assert client.slept == []


def test_answer_that_trickles_past_the_deadline_fails(client):
    slow = httpx.Response(200, stream=Body(b"{", client.advance(11), b"}"))
    with pytest.raises(RequestFailed, match="did not answer within 10 s"):
        client.generate(slow, timeout_s=10)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{"message": 1}]}'])
def test_answer_of_something_else_is_explained(client, body):
    with pytest.raises(RequestFailed, match="not an OpenAI answer"):
        client.generate(httpx.Response(200, content=body))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The server gave no reason."),
        (b"<h1>Bad Gateway</h1>", "<h1>Bad Gateway</h1>"),
        (b'{"error": "flat"}', "flat"),
        (b'{"error": {"message": "deep", "code": 404}}', "deep"),
        (b'{"detail": "other"}', '{"detail": "other"}'),
    ],
)
def test_errors_of_any_shape_have_a_message(client, body, message):
    with pytest.raises(RequestFailed) as caught:
        client.generate(httpx.Response(404, content=body))
    assert caught.value.message == message


def test_models(client):
    assert client.models(error(503), httpx.Response(200, json={"data": [{"id": "auto"}]})) == [{"id": "auto"}]
    assert client.transport.requests[0].url.path == "/v1/models"
    with pytest.raises(RequestFailed, match="not an OpenAI answer"):
        client.models(httpx.Response(200, json=[1]))


def event(text: str, **fields: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None, **fields}
    return b"data: " + json.dumps({"model": "m", "choices": [choice]}, ensure_ascii=False).encode() + b"\n\n"


USAGE = b'data: {"model": "m", "choices": [], "usage": {"total_tokens": 5}}\n\n'
DONE = b"data: [DONE]\n\n"


def streamed(*pieces: Any) -> httpx.Response:
    return httpx.Response(200, headers=HEADERS, stream=Body(*pieces))


def test_stream_yields_pieces_and_then_the_answer(client):
    reply = streamed(event("So"), client.advance(2), event("on."), event("", finish_reason="stop"), USAGE, DONE)
    pieces, stream = client.stream(error(503), reply)
    assert pieces == ["So", "on."]
    assert client.transport.body() == {
        "model": "auto",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    answer = stream.answer
    assert (answer.text, answer.expert, answer.finish_reason) == ("Soon.", "support", "stop")
    assert (answer.usage, answer.latency_ms) == ({"total_tokens": 5}, 2250.0)


def test_stream_survives_any_cut(client):
    whole = b": comment\r\n" + event("a\u2028é") + event("b") + DONE
    pieces, _ = client.stream(streamed(*(whole[i : i + 1] for i in range(len(whole)))))
    assert pieces == ["a\u2028é", "b"]


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        ((httpx.ReadError("reset"),), "broke off before its end: reset"),
        ((), "broke off before its end"),
        ((b'data: {"error": {"message": "expert died", "code": "expert_died"}}\n\n',), "expert died"),
        ((b"data: {\n\n",), "not JSON"),
        ((b"data: 5\n\n",), "not an object"),
    ],
)
def test_stream_that_began_is_never_retried(client, ending, message):
    with pytest.raises(RequestFailed, match=message) as caught:
        client.stream(streamed(event("a"), *ending), ok())
    assert caught.value.request_id == "id-1"
    assert len(client.transport.requests) == 1


def test_stream_has_a_deadline(client):
    with pytest.raises(RequestFailed, match="broke off"):
        client.stream(streamed(event("a"), client.advance(11), event("b"), DONE), timeout_s=10)


def test_stream_closed_early_closes_the_connection(client):
    reply = streamed(event("a"), event("b"), DONE)
    pieces, stream = client.stream(reply, num_pieces=1)
    assert pieces == ["a"]
    assert reply.is_closed
    with pytest.raises(ClientError, match="not been read to its end"):
        _ = stream.answer


@pytest.mark.parametrize("url", ["gateway:8080", "ftp://x", "", "http://x:port"])
def test_addresses_are_checked(url):
    with pytest.raises(ClientError, match="must be an http"):
        RouterClient(url)


def test_openai_style_address_is_understood():
    with RouterClient("http://x:1/v1/") as client:
        assert client.url == "http://x:1"


def test_gateway_is_told_how_long_the_caller_waits(client):
    client.generate(client.advance(4, error(500)), ok(), timeout_s=10)
    assert [request.headers["x-request-timeout"] for request in client.transport.requests] == ["10.000", "5.750"]


@pytest.mark.parametrize("failure", [429, 500, 503, httpx.ConnectError("x"), httpx.ConnectTimeout("x")])
def test_fallback_is_asked_at_once_and_only_then_is_waited(client, failure):
    failures = [error(failure) if isinstance(failure, int) else failure for _ in range(3)]
    hosts = client.hosts((*failures, ok()), fallback_url="http://other.test/v1")
    assert hosts == ["gateway.test", "other.test", "gateway.test", "other.test"]
    assert client.slept == [0.25]


def test_mistakes_go_to_no_fallback(client):
    with pytest.raises(RequestFailed):
        client.generate(error(400), fallback_url="http://other.test")
    assert len(client.transport.requests) == 1


def test_gateway_that_cannot_be_reached_is_asked_last_for_a_while(client):
    refused = httpx.ConnectError("x")
    hosts = client.hosts(
        (refused, ok()), (ok(),), (client.advance(31, ok()),), (ok(),), fallback_url=["http://b.test", "http://c.test"]
    )
    assert hosts == ["gateway.test", "b.test", "b.test", "b.test", "gateway.test"]


def test_error_names_the_gateway_that_was_asked_last(client):
    other = "http://other.test"
    with pytest.raises(RequestFailed, match=r"Cannot reach http://other\.test: y"):
        client.generate(httpx.ConnectError("x"), httpx.ConnectError("y"), fallback_url=other, max_retries=1)
    with pytest.raises(ClientError, match="must be an http"):
        client.generate(fallback_url="other")


def test_stream_falls_back_before_its_first_piece(client):
    pieces, _ = client.stream(httpx.ConnectError("x"), streamed(event("a"), DONE), fallback_url="http://other.test")
    assert pieces == ["a"]
    assert client.transport.requests[1].url.host == "other.test"


def test_embeddings(client):
    packed = base64.b64encode(struct.pack("<2f", 0.5, -2)).decode()
    data = [{"index": 1, "embedding": [1, 2]}, {"index": 0, "embedding": packed}]
    reply = httpx.Response(200, json={"data": data, "model": "v", "usage": {"total_tokens": 3}}, headers=HEADERS)
    found = client.call(error(503), client.advance(1, reply), method="embeddings", args=(["a", "b"],), dimensions=2)
    assert found.vectors == [[0.5, -2.0], [1.0, 2.0]]
    assert (found.expert, found.model, found.usage) == ("support", "registry:support/1", {"total_tokens": 3})
    assert (found.request_id, found.latency_ms) == ("id-1", 1250.0)
    assert client.transport.requests[1].url.path == "/v1/embeddings"
    body = {"model": "auto", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 2}
    assert client.transport.body(1) == body


def test_rerank(client):
    results = [{"index": 1, "relevance_score": 0.9, "document": {"text": "b"}}, {"index": 0, "relevance_score": 0}]
    reply = httpx.Response(200, json={"results": results, "model": "judge"})
    found = client.call(reply, method="rerank", args=("q", ["a", "b"]), top_n=2, model="judge")
    assert [(item.index, item.score) for item in found.results] == [(1, 0.9), (0, 0.0)]
    assert found.model == "judge"
    assert client.transport.requests[0].url.path == "/v1/rerank"
    assert client.transport.body() == {"model": "judge", "query": "q", "documents": ["a", "b"], "top_n": 2}


@pytest.mark.parametrize(
    ("method", "content"),
    [
        ("embeddings", {}),
        ("embeddings", []),
        ("embeddings", {"data": [{}]}),
        ("embeddings", {"data": [{"index": 0, "embedding": "!"}]}),
        ("embeddings", {"data": [{"index": 0, "embedding": [None]}]}),
        ("rerank", {}),
        ("rerank", 5),
        ("rerank", {"results": [5]}),
        ("rerank", {"results": [{"index": 0}]}),
    ],
)
def test_answers_that_are_no_vectors_or_rankings_are_explained(client, method, content):
    args = ("a",) if method == "embeddings" else ("q", ["a"])
    with pytest.raises(RequestFailed, match="not an OpenAI answer"):
        client.call(httpx.Response(200, json=content), method=method, args=args)
