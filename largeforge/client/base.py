"""What the synchronous and the asynchronous client have in common: options, requests, error texts."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict

import httpx

from largeforge.client import call as calls
from largeforge.client import retry as retries
from largeforge.client.retry import Retry, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from largeforge.client.call import Call

CONNECT_TIMEOUT_S = 5.0


class Options(TypedDict, total=False):
    """Keyword arguments that both clients take."""

    timeout_s: float
    """Deadline of a call in seconds, retries and waits included; 60 by default."""
    max_retries: int
    """Further attempts after the first; 3 by default."""
    api_key: str | None
    """Sent as a bearer token."""
    retry: Retry
    """Delays between attempts; its `max_retries` gives way to the argument of that name."""
    clock: Callable[[], float]
    """Monotonic seconds, for tests."""
    random: Callable[[], float]
    """A number in [0, 1), for tests."""


class ClientBase:
    """Holds the options; the subclasses do the input and output."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 60.0,
        max_retries: int | None = None,
        api_key: str | None = None,
        retry: Retry | None = None,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random.random,
    ):
        self.url = calls.base_url(url)
        self._timeout_s = timeout_s
        retry = retry or Retry()
        self._retry = retry if max_retries is None else replace(retry, max_retries=max_retries)
        self._headers = calls.headers(api_key)
        self._clock = clock
        self._random = random

    def _steps(self, started: float) -> Generator[retries.Step, retries.Outcome, None]:
        deadline = started + self._timeout_s
        return retries.steps(self._retry, deadline=deadline, clock=self._clock, random=self._random)

    def _request(self, http: httpx.Client | httpx.AsyncClient, call: Call, timeout_s: float) -> httpx.Request:
        timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S))
        return http.build_request(call.method, self.url + call.path, json=call.json, timeout=timeout)

    def _check_deadline(self, started: float) -> None:
        """Bound an answer that trickles: httpx's timeout is for each read, the deadline for all of them."""
        if self._clock() - started >= self._timeout_s:
            raise httpx.ReadTimeout("")

    def _unreachable(self, error: httpx.TransportError) -> Unreachable:
        if isinstance(error, httpx.TimeoutException):
            return Unreachable(f"{self.url} did not answer within {self._timeout_s:g} s.")
        return Unreachable(f"Cannot reach {self.url}: {error or type(error).__name__}.")

    def _latency_ms(self, started: float) -> float:
        return (self._clock() - started) * 1000
