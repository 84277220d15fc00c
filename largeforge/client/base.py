"""What the synchronous and the asynchronous client have in common: options, requests, error texts."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict

import httpx

from largeforge.client import call as calls
from largeforge.client import retry as retries
from largeforge.client.retry import Attempt, Retry, Unreachable
from largeforge.client.trust import verification

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Generator, Sequence

    from largeforge.client.call import Call

CONNECT_TIMEOUT_S = 5.0
AVOIDED_S = 30.0
"""How long a gateway that could not be reached is asked last."""
TIMEOUT_HEADER = "x-request-timeout"
"""Seconds that are left for a request; the gateway passes them on and gives up in time."""


class Options(TypedDict, total=False):
    """Keyword arguments that both clients take."""

    timeout_s: float
    """Deadline of a call in seconds, retries and waits included; 60 by default."""
    max_retries: int
    """Further attempts after the first; 3 by default."""
    api_key: str | None
    """Sent as a bearer token."""
    verify: ssl.SSLContext | str
    """For https: a PEM file of authorities, or a context; without it see `trust.py`."""
    retry: Retry
    """Delays between attempts; its `max_retries` gives way to the argument of that name."""
    fallback_url: str | Sequence[str]
    """Other gateways, asked in turn while those before them cannot be reached or fail."""
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
        verify: ssl.SSLContext | str = "",
        retry: Retry | None = None,
        fallback_url: str | Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random.random,
    ):
        self.url = calls.base_url(url)
        others = [fallback_url] if isinstance(fallback_url, str) else fallback_url
        self._urls = [self.url, *map(calls.base_url, others)]
        self._avoided_until: dict[str, float] = {}
        self._timeout_s = timeout_s
        retry = retry or Retry()
        self._retry = retry if max_retries is None else replace(retry, max_retries=max_retries)
        self._headers = calls.headers(api_key)
        self._verify = verification(verify, self._urls)
        self._clock = clock
        self._random = random

    def _steps(self, started: float) -> Generator[retries.Step, retries.Outcome, None]:
        urls = sorted(self._urls, key=lambda url: self._avoided_until.get(url, 0.0) > started)
        deadline = started + self._timeout_s
        return retries.steps(self._retry, urls=urls, deadline=deadline, clock=self._clock, random=self._random)

    def _request(self, http: httpx.Client | httpx.AsyncClient, call: Call, attempt: Attempt) -> httpx.Request:
        """Return a request that tells the gateway how long the caller will wait."""
        timeout = httpx.Timeout(attempt.timeout_s, connect=min(attempt.timeout_s, CONNECT_TIMEOUT_S))
        headers = {TIMEOUT_HEADER: f"{attempt.timeout_s:.3f}"}
        return http.build_request(
            call.method, attempt.url + call.path, json=call.json, timeout=timeout, headers=headers
        )

    def _check_deadline(self, started: float) -> None:
        """Bound an answer that trickles: httpx's timeout is for each read, the deadline for all of them."""
        if self._clock() - started >= self._timeout_s:
            raise httpx.ReadTimeout("")

    def _unreachable(self, url: str, error: httpx.TransportError) -> Unreachable:
        """Return what happened, and ask other gateways first for a while."""
        self._avoided_until[url] = self._clock() + AVOIDED_S
        if isinstance(error, httpx.TimeoutException):
            return Unreachable(f"{url} did not answer within {self._timeout_s:g} s.")
        return Unreachable(f"Cannot reach {url}: {error or type(error).__name__}.")

    def _latency_ms(self, started: float) -> float:
        return (self._clock() - started) * 1000
