"""What to send for a call, the same for both clients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from largeforge.errors import ClientError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from largeforge.client.answer import Answer


@dataclass(frozen=True)
class Call:
    """A request, without the address."""

    method: str
    path: str
    json: dict[str, Any] | None = None


MODELS = Call("GET", "/v1/models")


def chat(
    messages: str | Sequence[Mapping[str, Any]],
    *,
    model: str,
    stream: bool,
    max_tokens: int | None,
    temperature: float | None,
    parameters: Mapping[str, Any],
) -> Call:
    """Return the call for a chat; plain text is one user message, and None means the server's default."""
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    body: dict[str, Any] = {"model": model, "messages": [dict(message) for message in messages]}
    if stream:
        body.update(stream=True, stream_options={"include_usage": True})
    chosen = {"max_tokens": max_tokens, "temperature": temperature}
    body.update({name: value for name, value in chosen.items() if value is not None})
    body.update(parameters)
    return Call("POST", "/v1/chat/completions", body)


def embeddings(texts: str | Sequence[str], *, model: str, parameters: Mapping[str, Any]) -> Call:
    """Return the call for vectors; base64 makes the answer a third as long."""
    given = texts if isinstance(texts, str) else list(texts)
    body = {"model": model, "input": given, "encoding_format": "base64", **parameters}
    return Call("POST", "/v1/embeddings", body)


def rerank(
    query: str, documents: Sequence[str], *, top_n: int | None, model: str, parameters: Mapping[str, Any]
) -> Call:
    """Return the call that sorts documents; None means all of them."""
    body: dict[str, Any] = {"model": model, "query": query, "documents": list(documents)}
    if top_n is not None:
        body["top_n"] = top_n
    return Call("POST", "/v1/rerank", {**body, **parameters})


def feedback(rated: str | Answer, rating: str | float, *, comment: str) -> Call:
    """Return the call that rates an answer, or the one of a request's id."""
    body: dict[str, Any] = {"score" if isinstance(rating, int | float) else "rating": rating}
    if isinstance(rated, str):
        body["request_id"] = rated
    else:
        body.update(request_id=rated.request_id, expert=rated.expert, model=rated.model)
    if comment:
        body["comment"] = comment
    return Call("POST", "/v1/feedback", body)


def base_url(url: str) -> str:
    """Return the gateway's address without the `/v1` that OpenAI's clients want.

    Raises ClientError when it is not an address.
    """
    try:
        is_address = httpx.URL(url).scheme in ("http", "https")
    except httpx.InvalidURL:
        is_address = False
    if not is_address:
        raise ClientError(f"url = {url!r}: must be an http:// or https:// address, for example http://127.0.0.1:8080.")
    return url.rstrip("/").removesuffix("/v1")


def headers(api_key: str | None) -> dict[str, str]:
    """Return the headers of every request."""
    return {"authorization": f"Bearer {api_key}"} if api_key else {}
