"""What embeddings and rerank give: vectors, or documents in order, and where they came from."""

from __future__ import annotations

import base64
import json
import sys
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from largeforge.client.answer import not_understood

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Embeddings:
    """The vectors of some texts."""

    vectors: list[list[float]]
    """One for each text, in their order."""
    expert: str
    """Expert that answered."""
    model: str
    """Reference of the model; vectors of different models cannot be compared."""
    usage: dict[str, Any] = field(default_factory=dict)
    """Tokens, as the server counts them."""
    request_id: str = ""
    latency_ms: float = 0.0
    """From the call until the end of the answer, retries included."""


@dataclass(frozen=True)
class Ranked:
    """One document."""

    index: int
    """Which of the documents, counted from 0."""
    score: float
    """How well it fits; comparable within one answer."""


@dataclass(frozen=True)
class Ranking:
    """Documents, the best first."""

    results: list[Ranked]
    expert: str
    """Expert that answered."""
    model: str
    """Reference of the model."""
    request_id: str = ""
    latency_ms: float = 0.0
    """From the call until the end of the answer, retries included."""


def parse_embeddings(status: int, headers: Mapping[str, str], body: bytes, *, latency_ms: float) -> Embeddings:
    """Read the answer of `/v1/embeddings`.

    Raises RequestFailed when the body is not one.
    """
    try:
        content = json.loads(body)
        vectors = [_vector(item["embedding"]) for item in sorted(content["data"], key=lambda item: item["index"])]
    except (ValueError, LookupError, TypeError, AttributeError):
        raise not_understood(status, headers) from None
    usage = content.get("usage")
    return Embeddings(vectors, usage=usage if isinstance(usage, dict) else {}, **_facts(headers, content, latency_ms))


def parse_ranking(status: int, headers: Mapping[str, str], body: bytes, *, latency_ms: float) -> Ranking:
    """Read the answer of `/v1/rerank`.

    Raises RequestFailed when the body is not one.
    """
    try:
        content = json.loads(body)
        results = [Ranked(int(item["index"]), float(item["relevance_score"])) for item in content["results"]]
    except (ValueError, LookupError, TypeError, AttributeError):
        raise not_understood(status, headers) from None
    return Ranking(results, **_facts(headers, content, latency_ms))


def _facts(headers: Mapping[str, str], content: dict[str, Any], latency_ms: float) -> dict[str, Any]:
    return {
        "expert": headers.get("x-largeforge-expert", ""),
        "model": headers.get("x-largeforge-model", "") or str(content.get("model", "")),
        "request_id": headers.get("x-request-id", ""),
        "latency_ms": latency_ms,
    }


def _vector(given: Any) -> list[float]:
    """Return a vector that is written as numbers, or as base64 of little-endian float32."""
    if isinstance(given, str):
        numbers = array("f", base64.b64decode(given, validate=True))
        if sys.byteorder == "big":
            numbers.byteswap()
        return numbers.tolist()
    return [float(number) for number in given]
