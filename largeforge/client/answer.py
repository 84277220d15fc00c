"""What a request gives: an Answer, or RequestFailed; both read from status, headers and bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from largeforge.errors import ClientError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class RequestFailed(ClientError):
    """A request that got no answer.

    `status` is the HTTP status, 0 when the gateway could not be reached or the deadline passed;
    `message` and `code` are the server's; `request_id` finds the request in its log.
    """

    def __init__(self, message: str, *, status: int = 0, code: str = "", request_id: str = ""):
        self.message = message
        self.status = status
        self.code = code
        self.request_id = request_id
        facts = [f"status {status}"] * bool(status) + [f"request {request_id}"] * bool(request_id)
        super().__init__(f"{message} ({', '.join(facts)})" if facts else message)


@dataclass(frozen=True)
class Answer:
    """A finished answer and where it came from; also readable as a mapping: `answer["text"]`, `dict(answer)`."""

    text: str
    expert: str
    """Expert that answered."""
    model: str
    """Reference of the model that answered."""
    usage: dict[str, Any] = field(default_factory=dict)
    """Tokens, as the server counts them."""
    request_id: str = ""
    fallback: str = ""
    """Why the fallback expert answered: `unknown-model`, `expert-down`, or empty when it did not."""
    finish_reason: str = ""
    latency_ms: float = 0.0
    """From the call until the end of the answer, retries included."""
    lock: str = ""
    """Digest of what was served."""

    def keys(self) -> Iterator[str]:
        """Return the names of the fields."""
        return (item.name for item in fields(self))

    def __getitem__(self, key: str) -> Any:
        if key not in self.keys():
            raise KeyError(key)
        return getattr(self, key)


def answer_of(
    headers: Mapping[str, str], *, text: str, model: str, usage: Any, finish_reason: Any, latency_ms: float
) -> Answer:
    """Return the answer that a response's headers and content make."""
    return Answer(
        text=text,
        expert=headers.get("x-largeforge-expert", ""),
        model=headers.get("x-largeforge-model", "") or model,
        usage=usage if isinstance(usage, dict) else {},
        request_id=headers.get("x-request-id", ""),
        fallback=headers.get("x-largeforge-fallback", ""),
        finish_reason=finish_reason if isinstance(finish_reason, str) else "",
        latency_ms=latency_ms,
        lock=headers.get("x-largeforge-lock", ""),
    )


def parse_answer(status: int, headers: Mapping[str, str], body: bytes, *, latency_ms: float) -> Answer:
    """Read the answer to a chat.

    Raises RequestFailed when the body is not one.
    """
    try:
        content = json.loads(body)
        choice = content["choices"][0]
        text = choice["message"].get("content") or ""
    except (ValueError, LookupError, TypeError, AttributeError):
        raise not_understood(status, headers) from None
    return answer_of(
        headers,
        text=text,
        model=str(content.get("model", "")),
        usage=content.get("usage"),
        finish_reason=choice.get("finish_reason"),
        latency_ms=latency_ms,
    )


def parse_models(status: int, headers: Mapping[str, str], body: bytes) -> list[dict[str, Any]]:
    """Read the answer of `/v1/models`.

    Raises RequestFailed when the body is not one.
    """
    try:
        return [dict(card) for card in json.loads(body)["data"]]
    except (ValueError, LookupError, TypeError):
        raise not_understood(status, headers) from None


def parse_counted(status: int, headers: Mapping[str, str], body: bytes) -> bool:
    """Read the answer to a rating: whether it was counted.

    Raises RequestFailed when the body is not one.
    """
    try:
        return bool(json.loads(body)["counted"])
    except (ValueError, LookupError, TypeError):
        raise not_understood(status, headers) from None


def parse_failure(status: int, headers: Mapping[str, str], body: bytes) -> RequestFailed:
    """Read an answer that is an error, in OpenAI's shape or in any other."""
    request_id = headers.get("x-request-id", "")
    try:
        message, code = error_of(json.loads(body))
    except ValueError:
        message, code = "", ""
    message = message or body[:200].decode("utf-8", "replace").strip() or "The server gave no reason."
    return RequestFailed(message, status=status, code=code, request_id=request_id)


def error_of(content: Any) -> tuple[str, str]:
    """Return message and code of a JSON error, both empty when `content` is not one."""
    error = content.get("error") if isinstance(content, dict) else None
    if isinstance(error, str):
        return error, ""
    if not isinstance(error, dict):
        return "", ""
    return str(error.get("message") or "The server gave no reason."), str(error.get("code") or "")


def not_understood(status: int, headers: Mapping[str, str]) -> RequestFailed:
    """Return the error for an answer that is not what was asked for."""
    message = "The server's answer is not an OpenAI answer; is this the address of a gateway?"
    return RequestFailed(message, status=status, request_id=headers.get("x-request-id", ""))
