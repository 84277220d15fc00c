"""Ask one server once: an answer or one typed failure.

It does not choose the server, does not retry and does not know what the client has seen.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import orjson

from largeforge.gateway import readable
from largeforge.gateway.connection import ConnectionFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from largeforge.gateway.connection import Answer, Pool

PROBE_TIMEOUT_S = 5.0
MOST_ANSWER_BYTES = 256 * 2**20
"""Largest answer that is not streamed."""

MOST_CHECKED_BYTES = 65_536
"""Largest answer that is parsed to see that it is whole; of larger ones the last byte has to do."""

FailureKind = Literal["down", "refused", "connect-timeout", "reset", "broken", "tls", "status", "timeout", "no-json"]


class UpstreamFailed(Exception):
    """A server gave no usable answer; nothing of it has reached the client."""

    def __init__(self, kind: FailureKind, *, status: int = 0, retry_after: str = "", detail: str = ""):
        super().__init__(kind)
        self.kind = kind
        self.status = status
        self.retry_after = retry_after
        self.detail = detail
        """What TLS found wrong."""

    @property
    def is_of_connection(self) -> bool:
        """Whether the server could not be spoken with at all."""
        return self.kind in ("refused", "connect-timeout", "reset", "broken", "tls")


class UpstreamDied(Exception):
    """A stream broke off in the middle."""


class Reply:
    """A server's answer: all of it in `body`, or for a stream its first bytes, with the rest to come."""

    __slots__ = ("_answer", "body", "content", "content_type", "is_stream", "retry_after", "status")

    def __init__(self, answer: Answer, body: bytes, *, is_stream: bool, content: Any = None):
        self.status = answer.status
        self.content_type = answer.headers.get(b"content-type", b"application/json")
        self.retry_after = answer.headers.get(b"retry-after", b"")
        self.body = body
        self.content = content
        """The JSON of the body, None where it was not parsed."""
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

    @property
    def is_refusal(self) -> bool:
        """Whether it says no before an answer has begun."""
        status = readable.error_status(self.body) if self.is_stream and self.status == 200 else self.status
        return status >= 400

    def true_status(self) -> int:
        """Return the status that a whole answer to a chat or a completion should have had, 0 where it is one."""
        content = self.content
        if content is None:
            if len(self.body) > MOST_CHECKED_BYTES:
                return 0
            with suppress(orjson.JSONDecodeError):
                content = orjson.loads(self.body)
        return 0 if readable.is_answer(content) else readable.UNREADABLE

    @property
    def is_whole(self) -> bool:
        """Whether all of it has come."""
        return self._answer.is_whole

    def close(self) -> None:
        """Drop the connection unless the answer was read to its end, which tells the server to stop."""
        self._answer.close()


async def post(pool: Pool, path: bytes, head: bytes, body: bytes) -> Reply:
    """Send a request and wait for the whole answer, or for the first bytes of a stream.

    `head` are header lines, each ended by CRLF. Raises UpstreamFailed when there is no answer, or it is a 5xx or a
    redirect.
    """
    try:
        answer = await pool.request(b"POST", path, head, body)
        try:
            return await _reply(answer)
        except BaseException:
            answer.close()
            raise
    except ConnectionFailed as failed:
        raise UpstreamFailed(failed.why, detail=failed.detail) from failed


async def probe(pool: Pool, *, timeout_s: float = PROBE_TIMEOUT_S) -> None:
    """Ask a server whether it is healthy.

    Raises UpstreamFailed when it is not, and TimeoutError when it does not say.
    """
    try:
        async with asyncio.timeout(timeout_s):
            answer = await pool.request(b"GET", b"/health")
            try:
                await answer.read(MOST_ANSWER_BYTES)
            finally:
                answer.close()
    except ConnectionFailed as failed:
        if failed.why == "connect-timeout":
            raise TimeoutError from failed
        raise UpstreamFailed(failed.why, detail=failed.detail) from failed
    if answer.status != 200:
        raise UpstreamFailed("status", status=answer.status)


async def _reply(answer: Answer) -> Reply:
    if answer.status >= 500 or 300 <= answer.status < 400:
        retry_after = answer.headers.get(b"retry-after", b"").decode("latin-1")
        raise UpstreamFailed("status", status=answer.status, retry_after=retry_after)
    is_stream = answer.headers.get(b"content-type", b"").startswith(b"text/event-stream")
    body = await (answer.piece() if is_stream else answer.read(MOST_ANSWER_BYTES))
    if is_stream and not body:
        raise UpstreamFailed("reset")
    content = None
    if answer.status == 200 and not is_stream:
        content = _content(answer, body)
    return Reply(answer, body, is_stream=is_stream, content=content)


def _content(answer: Answer, body: bytes) -> Any:
    """Return the JSON of an answer, None where it says that it is none, or is too large to be parsed.

    Raises UpstreamFailed when it is half of it.
    """
    if not answer.headers.get(b"content-type", b"application/json").startswith(b"application/json"):
        return None
    if len(body) > MOST_CHECKED_BYTES:
        if not body.endswith((b"}", b"]")):
            raise UpstreamFailed("no-json")
        return None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise UpstreamFailed("no-json") from None
