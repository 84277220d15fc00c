"""What a batch needs of the gateway: somebody who answers one request, and what to make of the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import orjson

from largeforge.gateway.loopback import Whole

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence

    from largeforge.gateway.loopback import Loopback

MOST_ATTEMPTS = 5
"""How often a line is tried whose answers are failures of ours; one that is only asked to wait is tried until the
batch expires."""
FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0

Verdict = Literal["answered", "failed", "later"]


@dataclass(frozen=True)
class Answered:
    """An answer of the gateway: no answer at all when `status` is 0."""

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes

    @property
    def request_id(self) -> str:
        """The id under which the log has it."""
        return self.headers.get(b"x-request-id", b"").decode("latin-1")


class Answerer(Protocol):
    """Answers one request as if a client had sent it; setting `gone` is that client going away."""

    async def __call__(
        self, path: str, body: bytes, headers: Sequence[tuple[str, str]], gone: asyncio.Event
    ) -> Answered:
        """Return the answer, whatever it is."""


def through(loopback: Loopback) -> Answerer:
    """Return an answerer that asks the gateway's own application."""

    async def answer(path: str, body: bytes, headers: Sequence[tuple[str, str]], gone: asyncio.Event) -> Answered:
        whole = Whole()
        encoded = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers]
        await loopback.call(path, body, whole, source="batch", headers=encoded, gone=gone)
        return Answered(whole.status, whole.headers, whole.body)

    return answer


def judge(answered: Answered, *, attempt: int) -> Verdict:
    """Return what becomes of a line after its attempt number `attempt`, counted from 1."""
    if answered.status == 200:
        return "answered" if _is_object(answered.body) else "failed"
    if answered.status in (429, 503):
        return "later"
    if answered.status == 0 or answered.status == 408 or answered.status >= 500:
        return "failed" if attempt >= MOST_ATTEMPTS else "later"
    return "failed"


def delay_s(answered: Answered, *, attempt: int, random: float) -> float:
    """Return how long a line waits for its next attempt; `random` is from 0 to 1."""
    asked = answered.headers.get(b"retry-after", b"")
    delay = float(asked) if asked.isdigit() else FIRST_DELAY_S * 2.0 ** min(attempt - 1, 10)
    return min(delay, LONGEST_DELAY_S) * (1 + 0.5 * random)


def _is_object(body: bytes) -> bool:
    try:
        return isinstance(orjson.loads(body), dict)
    except ValueError:
        return False
