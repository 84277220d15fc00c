"""Watch each completion request from its beginning to its end: metrics, traces, and who answered it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from largeforge.gateway.access import Exchange
    from largeforge.gateway.arms import Arms
    from largeforge.gateway.link import Link
    from largeforge.gateway.metrics import Metrics
    from largeforge.gateway.pace import Pace
    from largeforge.gateway.quality.recent import Recent
    from largeforge.gateway.tracing import Traces

_SEEN = ("", "client_closed")
"""Errors of requests whose clients may have seen an answer, or some of it."""


class Observer:
    """Tells the metrics, and the traces where there are any."""

    def __init__(
        self,
        metrics: Metrics,
        traces: Traces | None,
        clock: Callable[[], float],
        *,
        answered: Recent[tuple[str, str, str]],
        arms: Arms,
    ):
        """`answered` gets the expert, the model and the side of each request with an answer, by its id; `arms` counts
        those of experts with a canary."""
        self.metrics = metrics
        self._answered = answered
        self.clock = clock
        self._arms = arms
        self._traces = traces

    def begin(self, link: Link) -> None:
        """Note that a request has come."""
        if self._traces is not None:
            link.exchange.trace = self._traces.begin("POST", link.path, link.headers, link.exchange.request_id)

    def pace(self, exchange: Exchange) -> Pace:
        """Return what measures the stream that answers."""
        return self.metrics.pace(exchange.expert, exchange.model, self.clock)

    def end(self, exchange: Exchange) -> None:
        """Note that a request is done with."""
        of = self.metrics.observe(exchange, self.clock())
        if of[0] and exchange.error in _SEEN:
            self._answered.put(exchange.request_id, (*of, self._arms.side(exchange)))
        if exchange.arm:
            self._arms.observe(exchange)
        if exchange.trace is not None:
            exchange.trace.end(exchange)
