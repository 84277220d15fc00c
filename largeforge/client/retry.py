"""When to try again, and how long to wait: a generator that yields what to do and is told what happened.

It performs nothing itself, so the synchronous and the asynchronous client run the same one.
Tried again are 429, every 5xx and connection errors; other 4xx never, nor a stream that began.
With several addresses the next one is tried at once, and only after all of them there is a wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from largeforge.client.answer import RequestFailed, parse_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence


@dataclass(frozen=True)
class Retry:
    """How often and how patiently to try."""

    max_retries: int = 3
    """Further attempts after the first."""
    first_delay_s: float = 0.25
    """Delay before the second attempt; doubles with each one."""
    max_delay_s: float = 8.0
    """Longest delay of our own choosing."""
    max_retry_after_s: float = 30.0
    """Longest `Retry-After` that is honoured; a longer one is cut to this."""


@dataclass(frozen=True)
class Attempt:
    """Send the request to this address now, and take at most this long."""

    url: str
    timeout_s: float


@dataclass(frozen=True)
class Wait:
    """Sleep before the next attempt."""

    seconds: float


@dataclass(frozen=True)
class Refused:
    """An attempt that was answered with an error status."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Unreachable:
    """An attempt that was not answered."""

    reason: str


Step = Attempt | Wait
Outcome = Refused | Unreachable | None


def steps(
    retry: Retry, *, urls: Sequence[str], deadline: float, clock: Callable[[], float], random: Callable[[], float]
) -> Generator[Step, Outcome, None]:
    """Yield attempts at the addresses in turn, and waits, until the caller stops asking because one succeeded.

    After a Wait, send None. Raises RequestFailed when no attempt is left or `deadline`, on
    `clock`, would pass.
    """
    attempt = 0
    failure = RequestFailed("The deadline passed before the request could be sent.")
    while (remaining := deadline - clock()) > 0:
        outcome = yield Attempt(urls[attempt % len(urls)], remaining)
        assert outcome is not None
        failure = failure_of(outcome)
        if attempt >= retry.max_retries or not is_worth_retrying(outcome):
            raise failure
        attempt += 1
        if attempt % len(urls):
            continue
        delay = delay_s(retry, attempt // len(urls) - 1, outcome, random())
        if clock() + delay >= deadline:
            raise failure
        yield Wait(delay)
    raise failure


def is_worth_retrying(outcome: Refused | Unreachable) -> bool:
    """Return whether the same request may succeed later."""
    return isinstance(outcome, Unreachable) or outcome.status == 429 or outcome.status >= 500


def delay_s(retry: Retry, attempt: int, outcome: Refused | Unreachable, random: float) -> float:
    """Return how long to wait: the server's `Retry-After`, or else doubling with half of it random,
    so that clients that failed together do not return together."""
    if isinstance(outcome, Refused):
        asked = _retry_after_s(outcome.headers)
        if asked is not None:
            return min(asked, retry.max_retry_after_s)
    return min(retry.first_delay_s * 2.0**attempt, retry.max_delay_s) * (0.5 + 0.5 * random)


def failure_of(outcome: Refused | Unreachable) -> RequestFailed:
    """Return the error to raise if this was the last attempt."""
    if isinstance(outcome, Refused):
        return parse_failure(outcome.status, outcome.headers, outcome.body)
    return RequestFailed(outcome.reason)


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read `Retry-After`: seconds, or a date that is compared with the server's own clock."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        then, now = parsedate_to_datetime(value), parsedate_to_datetime(headers.get("date", ""))
        return max(0.0, (then - now).total_seconds())
    except (ValueError, TypeError):
        return None
