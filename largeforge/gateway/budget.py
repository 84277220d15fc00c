"""A budget of retries: a share of recent requests, so that retrying does not bring down what is overloaded.

A token bucket as in Finagle's RetryBudget: each request pays in its share, each retry takes one out, and a small
reserve lets a gateway with little traffic retry at all.

A request that a dead server lost is moved to another one and takes nothing: the living get no more than their part of
all requests, breakers see to it that few requests meet a server that dies again and again, and half of all requests may
have been on it.
"""

from __future__ import annotations

RESERVE = 10.0
"""Retries that are possible before there were requests, and the most that are saved up beside the share."""
MOST = 100.0


class RetryBudget:
    """What may still be retried."""

    def __init__(self, share: float):
        self.share = share
        self._left = RESERVE if share else 0.0

    def request(self) -> None:
        """Count a request."""
        self._left = min(self._left + self.share, MOST)

    def take(self, *, is_move: bool = False) -> bool:
        """Return whether one more attempt may be made, and count it unless a dead server lost the request."""
        if is_move and self.share:
            return True
        if self._left < 1:
            return False
        self._left -= 1
        return True
