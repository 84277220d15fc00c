"""The synchronous client; `asynchronous.py` is the same with `await`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

import httpx

from largeforge.client import call as calls
from largeforge.client.answer import Answer, parse_answer, parse_counted, parse_models
from largeforge.client.base import ClientBase, Options
from largeforge.client.events import StreamReader
from largeforge.client.pooling import Embeddings, Ranking, parse_embeddings, parse_ranking
from largeforge.client.retry import Refused, Wait
from largeforge.errors import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from types import TracebackType

    from largeforge.client.call import Call
    from largeforge.client.retry import Outcome


class RouterClient(ClientBase):
    """Asks a gateway; one pool of connections, safe to share between threads.

    `url` is the gateway's address, with or without `/v1`; for the other options see `Options`.
    """

    def __init__(
        self,
        url: str,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        **options: Unpack[Options],
    ):
        super().__init__(url, **options)
        self._http = httpx.Client(headers=self._headers, transport=transport, trust_env=False, verify=self._verify)
        self._sleep = sleep

    def generate(
        self,
        messages: str | Sequence[Mapping[str, Any]],
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        model: str = "auto",
        **parameters: Any,
    ) -> Answer:
        """Return the answer to a chat, or to one user message given as a string.

        `parameters` are passed on as OpenAI's API names them. Raises RequestFailed.
        """
        call = calls.chat(
            messages,
            model=model,
            stream=False,
            max_tokens=max_tokens,
            temperature=temperature,
            parameters=parameters,
        )
        started = self._clock()
        response, body = self._send(call, started, whole=True)
        return parse_answer(response.status_code, response.headers, body, latency_ms=self._latency_ms(started))

    def stream(
        self,
        messages: str | Sequence[Mapping[str, Any]],
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        model: str = "auto",
        **parameters: Any,
    ) -> Stream:
        """Return the answer as an iterator of pieces of text; its `answer` is there at the end.

        Nothing is sent before the first piece is asked for. Raises RequestFailed while iterating.
        """
        call = calls.chat(
            messages, model=model, stream=True, max_tokens=max_tokens, temperature=temperature, parameters=parameters
        )
        return Stream(self, call)

    def embeddings(self, input: str | Sequence[str], *, model: str = "auto", **parameters: Any) -> Embeddings:
        """Return the vectors of texts. Raises RequestFailed."""
        call = calls.embeddings(input, model=model, parameters=parameters)
        started = self._clock()
        response, body = self._send(call, started, whole=True)
        return parse_embeddings(response.status_code, response.headers, body, latency_ms=self._latency_ms(started))

    def rerank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        top_n: int | None = None,
        model: str = "auto",
        **parameters: Any,
    ) -> Ranking:
        """Return documents sorted by how well they fit a query. Raises RequestFailed."""
        call = calls.rerank(query, documents, top_n=top_n, model=model, parameters=parameters)
        started = self._clock()
        response, body = self._send(call, started, whole=True)
        return parse_ranking(response.status_code, response.headers, body, latency_ms=self._latency_ms(started))

    def feedback(self, answer: Answer | str, rating: Literal["up", "down"] | float, *, comment: str = "") -> bool:
        """Rate an answer, or that of a request's id, with thumbs or from 0 to 1; return whether it counted: the first
        rating of an answer does. Raises RequestFailed.
        """
        call = calls.feedback(answer, rating, comment=comment)
        response, body = self._send(call, self._clock(), whole=True)
        return parse_counted(response.status_code, response.headers, body)

    def models(self) -> list[dict[str, Any]]:
        """Return every name that `model` may have, with its description. Raises RequestFailed."""
        response, body = self._send(calls.MODELS, self._clock(), whole=True)
        return parse_models(response.status_code, response.headers, body)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, call: Call, started: float, *, whole: bool) -> tuple[httpx.Response, bytes]:
        """Return a successful response with its body, or with the body still to come unless `whole`."""
        steps = self._steps(started)
        outcome: Outcome = None
        while True:
            step = steps.send(outcome)
            outcome = None
            if isinstance(step, Wait):
                self._sleep(step.seconds)
                continue
            try:
                response = self._http.send(self._request(self._http, call, step), stream=True)
                if response.is_success and not whole:
                    return response, b""
                body = self._read(response, started)
            except httpx.TransportError as error:
                outcome = self._unreachable(step.url, error)
                continue
            if response.is_success:
                return response, body
            outcome = Refused(response.status_code, response.headers, body)

    def _read(self, response: httpx.Response, started: float) -> bytes:
        chunks: list[bytes] = []
        try:
            for chunk in response.iter_bytes():
                chunks.append(chunk)
                self._check_deadline(started)
        finally:
            response.close()
        return b"".join(chunks)


class Stream:
    """The pieces of an answer as they arrive; close it, or use it with `with`, to stop early."""

    def __init__(self, client: RouterClient, call: Call):
        self._client = client
        self._call = call
        self._answer: Answer | None = None
        self._pieces = self._run()

    @property
    def answer(self) -> Answer:
        """The whole answer, once all pieces have been read."""
        if self._answer is None:
            raise ClientError("The stream has not been read to its end.")
        return self._answer

    def close(self) -> None:
        """Stop; the server is told to stop, too."""
        self._pieces.close()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._pieces)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> Generator[str, None, None]:
        client, started = self._client, self._client._clock()
        response, _ = client._send(self._call, started, whole=False)
        reader = StreamReader(response.status_code, response.headers)
        try:
            for data in response.iter_bytes():
                yield from reader.feed(data)
                client._check_deadline(started)
        except httpx.TransportError as error:
            raise reader.broken(error) from error
        finally:
            response.close()
        self._answer = reader.answer(latency_ms=client._latency_ms(started))
