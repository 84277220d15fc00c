"""Speak to the experts' servers: one pooled HTTP session, one request, one typed failure.

It does not choose the expert, does not retry and does not know what the client has seen.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from types import TracebackType

    from largeforge.gateway.config import GatewayFile
    from largeforge.gateway.request import Kind

PATHS: dict[Kind, str] = {"chat": "/v1/chat/completions", "completion": "/v1/completions"}

KEEPALIVE_S = 4.0
"""Idle connections are dropped before vLLM drops them (VLLM_HTTP_TIMEOUT_KEEP_ALIVE is 5 s)."""

PROBE_TIMEOUT_S = 5.0
_LARGE_BODY = 2**20

FailureKind = Literal["down", "refused", "connect-timeout", "reset", "status"]


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

    def __init__(self, response: aiohttp.ClientResponse, body: bytes, *, is_stream: bool):
        self.status = response.status
        self.content_type = response.headers.get("content-type", "application/json").encode("latin-1", "replace")
        self.retry_after = response.headers.get("retry-after", "").encode("latin-1", "replace")
        self.body = body
        self.is_stream = is_stream
        self._response = response

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield a stream's bytes as they arrive, the first ones included.

        Raises UpstreamDied when the connection breaks before the end.
        """
        yield self.body
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamDied from error

    def close(self) -> None:
        """Drop the connection unless the answer was read to its end, which tells the server to stop."""
        if not self._response.content.at_eof():
            self._response.close()


class Session:
    """The connections to all servers; enter it on the event loop that uses it."""

    def __init__(self, *, connect_timeout_s: float):
        self._timeout = aiohttp.ClientTimeout(total=None, connect=connect_timeout_s)
        self._probe_timeout = aiohttp.ClientTimeout(total=max(connect_timeout_s, PROBE_TIMEOUT_S))
        self._client: aiohttp.ClientSession

    async def __aenter__(self) -> Session:
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
            auto_decompress=False,
            timeout=self._timeout,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def post(self, target: Target, kind: Kind, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Send a request and wait for the whole answer, or for the first bytes of a stream.

        Raises UpstreamFailed when there is none, or it is a 5xx or a redirect.
        """
        data = body if len(body) <= _LARGE_BODY else io.BytesIO(body)
        try:
            response = await self._client.post(
                target.url + PATHS[kind], data=data, headers=headers, allow_redirects=False
            )
            try:
                return await _reply(response)
            except BaseException:
                response.close()
                raise
        except aiohttp.ConnectionTimeoutError as error:
            raise UpstreamFailed("connect-timeout") from error
        except aiohttp.ClientConnectorError as error:
            raise UpstreamFailed("refused") from error
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamFailed("reset") from error

    async def probe(self, url: str) -> None:
        """Ask a server whether it is healthy.

        Raises UpstreamFailed when it is not, and TimeoutError when it does not say.
        """
        try:
            async with self._client.get(
                f"{url}/health", timeout=self._probe_timeout, allow_redirects=False
            ) as response:
                if response.status != 200:
                    raise UpstreamFailed("status", status=response.status)
        except aiohttp.ServerTimeoutError:
            raise
        except aiohttp.ClientConnectorError as error:
            raise UpstreamFailed("refused") from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise UpstreamFailed("reset") from error


async def _reply(response: aiohttp.ClientResponse) -> Reply:
    if response.status >= 500 or 300 <= response.status < 400:
        raise UpstreamFailed("status", status=response.status, retry_after=response.headers.get("retry-after", ""))
    is_stream = response.content_type == "text/event-stream"
    body = await (response.content.readany() if is_stream else response.read())
    if is_stream and not body:
        raise UpstreamFailed("reset")
    return Reply(response, body, is_stream=is_stream)
