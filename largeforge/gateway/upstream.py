"""Speak to the experts' servers: one request, one answer or one typed failure.

It does not choose the expert, does not retry and does not know what the client has seen.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from largeforge.gateway.connection import ConnectionFailed, Pool
from largeforge.gateway.kinds import UPSTREAM_PATHS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from largeforge.gateway.config import GatewayFile
    from largeforge.gateway.connection import Answer
    from largeforge.gateway.kinds import Kind

PROBE_TIMEOUT_S = 5.0
MOST_ANSWER_BYTES = 256 * 2**20
"""Largest answer that is not streamed."""

FailureKind = Literal["down", "refused", "connect-timeout", "reset", "broken", "status"]


class UpstreamFailed(Exception):
    """An expert gave no usable answer; nothing of it has reached the client."""

    def __init__(self, kind: FailureKind, *, status: int = 0, retry_after: str = ""):
        super().__init__(kind)
        self.kind = kind
        self.status = status
        self.retry_after = retry_after


class UpstreamDied(Exception):
    """An expert's stream broke off in the middle."""


@dataclass(frozen=True)
class Target:
    """Where an expert listens, what its server calls it, and the headers that name it to clients."""

    name: str
    url: str
    served_model: str
    headers: tuple[tuple[bytes, bytes], ...]


def targets(file: GatewayFile) -> dict[str, Target]:
    """Return the targets of a gateway file by expert, in the order of the topology."""
    return {name: _target(name, file) for name in file.topology.experts}


def _target(name: str, file: GatewayFile) -> Target:
    upstream = file.upstreams[name]
    headers = (
        (b"x-largeforge-expert", name.encode()),
        (b"x-largeforge-model", header_value(upstream.model)),
        (b"x-largeforge-lock", header_value(upstream.lock)),
    )
    return Target(name, upstream.url, upstream.served_model, headers)


def header_value(text: str) -> bytes:
    """Return any text as a header value: what is not printable ASCII is percent-encoded, long text is cut."""
    return quote(text, safe=" !#$&'()*+,/:;=?@[]~")[:256].encode()


class Reply:
    """An expert's answer: all of it in `body`, or for a stream its first bytes, with the rest to come."""

    def __init__(self, answer: Answer, body: bytes, *, is_stream: bool):
        self.status = answer.status
        self.content_type = answer.headers.get(b"content-type", b"application/json")
        self.retry_after = answer.headers.get(b"retry-after", b"")
        self.body = body
        self.is_stream = is_stream
        self._answer = answer

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield a stream's bytes as they arrive, the first ones included.

        Raises UpstreamDied when the connection breaks before the end.
        """
        yield self.body
        try:
            while piece := await self._answer.piece():
                yield piece
        except ConnectionFailed as error:
            raise UpstreamDied from error

    def close(self) -> None:
        """Drop the connection unless the answer was read to its end, which tells the server to stop."""
        self._answer.close()


class Session:
    """The connections to all servers; enter it on the event loop that uses it."""

    def __init__(self, *, connect_timeout_s: float):
        self._connect_timeout_s = connect_timeout_s
        self._pools: dict[str, Pool] = {}

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pool in self._pools.values():
            pool.close()

    async def post(self, target: Target, kind: Kind, body: bytes, head: bytes) -> Reply:
        """Send a request and wait for the whole answer, or for the first bytes of a stream.

        `head` are header lines, each ended by CRLF. Raises UpstreamFailed when there is no answer, or it is a 5xx or a
        redirect.
        """
        try:
            answer = await self._pool(target.url).request(b"POST", UPSTREAM_PATHS[kind].encode(), head, body)
            try:
                return await _reply(answer)
            except BaseException:
                answer.close()
                raise
        except ConnectionFailed as failed:
            raise UpstreamFailed(failed.why) from failed

    async def probe(self, url: str) -> None:
        """Ask a server whether it is healthy.

        Raises UpstreamFailed when it is not, and TimeoutError when it does not say.
        """
        try:
            async with asyncio.timeout(max(self._connect_timeout_s, PROBE_TIMEOUT_S)):
                answer = await self._pool(url).request(b"GET", b"/health")
                try:
                    await answer.read(MOST_ANSWER_BYTES)
                finally:
                    answer.close()
        except ConnectionFailed as failed:
            if failed.why == "connect-timeout":
                raise TimeoutError from failed
            raise UpstreamFailed(failed.why) from failed
        if answer.status != 200:
            raise UpstreamFailed("status", status=answer.status)

    def _pool(self, url: str) -> Pool:
        pool = self._pools.get(url)
        if pool is None:
            pool = self._pools[url] = Pool(url, connect_timeout_s=self._connect_timeout_s)
        return pool


async def _reply(answer: Answer) -> Reply:
    if answer.status >= 500 or 300 <= answer.status < 400:
        retry_after = answer.headers.get(b"retry-after", b"").decode("latin-1")
        raise UpstreamFailed("status", status=answer.status, retry_after=retry_after)
    is_stream = answer.headers.get(b"content-type", b"").startswith(b"text/event-stream")
    body = await (answer.piece() if is_stream else answer.read(MOST_ANSWER_BYTES))
    if is_stream and not body:
        raise UpstreamFailed("reset")
    return Reply(answer, body, is_stream=is_stream)
