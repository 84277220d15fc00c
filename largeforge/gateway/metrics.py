"""Prometheus metrics of one gateway, in a registry that is passed in.

Labels only take values that the configuration bounds: experts, their models and servers, status codes, reasons. What is
counted stays until its expert is gone for two topologies; what is a state is read when it is asked for (`gauges.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from largeforge.gateway.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from largeforge.gateway.access import Exchange

PREFIX = "largeforge_gateway"
NO_EXPERT = "none"
"""Label of requests that were refused before an expert was chosen."""

DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
TOKEN_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
"""Times between two tokens."""

Waited = Literal["served", "left", "timeout", "full"]
"""What became of a request that would have had to wait: `full` are those that could not even do that."""

Signal = Literal["schema_valid", "thumbs", "judge", "agreement"]
"""Who judges answers."""

_Of = tuple[str, str]
"""An expert and its model."""


class Metrics:
    """The gateway's own metrics."""

    def __init__(self, registry: CollectorRegistry, *, thresholds_ms: Mapping[str, Sequence[float]] = {}):
        """`thresholds_ms` are further times that histograms tell apart, by indicator of an objective."""
        self.registry = registry
        further = {indicator: [time / 1000 for time in times] for indicator, times in thresholds_ms.items()}
        of = ("expert", "model")
        self.requests = self._counter("requests", "Completion requests by answering expert.", *of, "status")
        self.errors = self._counter(
            "errors", "Requests without a good answer, by the `code` of the error or why there is none.", *of, "error"
        )
        self.duration = self._histogram(
            "request_duration_seconds", "Time from the request until the end of its answer.",
            _bounds(DURATION_BUCKETS, further.get("latency")), *of,
        )  # fmt: skip
        self.time_to_first_byte = self._histogram(
            "time_to_first_byte_seconds", "Time from the request until the first byte of its answer.",
            DURATION_BUCKETS, *of,
        )  # fmt: skip
        self.time_to_first_token = self._histogram(
            "time_to_first_token_seconds", "Streams: time from the request until the first event with a part of the "
            "answer.", _bounds(DURATION_BUCKETS, further.get("ttft")), *of,
        )  # fmt: skip
        self.inter_token = self._histogram(
            "inter_token_latency_seconds", "Streams: time from one event with a part of the answer to the next; events "
            "that arrive together share it.", _bounds(TOKEN_BUCKETS, further.get("inter_token")), *of,
        )  # fmt: skip
        self.tokens = self._counter(
            "tokens", "Tokens by kind, prompt or completion, as the `usage` of answers says. Streams without it count "
            "one completion token for each event with a part of the answer, and no prompt.", *of, "kind",
        )  # fmt: skip
        self.fallbacks = self._counter("fallbacks", "Requests that went to another expert than the chosen.", "reason")
        self.in_flight = Gauge(f"{PREFIX}_requests_in_flight", "Requests being answered.", registry=registry)
        self.retries = self._counter("retries", "Further attempts of requests, at another replica.", "expert", "why")
        self.shadows = self._counter("shadows", "Shadow requests by what became of them.", "expert", "outcome")
        self.queue_wait = self._histogram(
            "queue_wait_seconds", "Time that requests waited for a busy expert, of those that did.",
            DURATION_BUCKETS, "expert", "outcome",
        )  # fmt: skip
        self.quality = self._counter(
            "quality", "Judgements of answers: `signal` is who judged (`schema_valid`, `thumbs`, `judge`, "
            "`agreement`).", *of, "signal", "good",
        )  # fmt: skip
        self.quality_left_out = self._counter(
            "quality_left_out", "Answers that were to be judged, and were not.", "signal", "why"
        )
        self.queue_refusals = self._counter(
            "queue_refusals", "Requests refused because a queue was full or the wait was over.", "expert", "reason"
        )
        self.bounds = {
            "duration": list(_bounds(DURATION_BUCKETS, further.get("latency"))),
            "ttft": list(_bounds(DURATION_BUCKETS, further.get("ttft"))),
            "inter_token": list(_bounds(TOKEN_BUCKETS, further.get("inter_token"))),
        }
        """Upper bounds in seconds of the histograms that objectives look at."""
        self._series: dict[_Of, _Series] = {}
        self._kept: set[_Of] = set()
        for reason in ("unknown-model", "expert-down", "degraded"):
            self.fallbacks.labels(reason)

    def observe(self, exchange: Exchange, now: float) -> tuple[str, str]:
        """Count one finished completion request; return its expert and model."""
        of = (exchange.expert, exchange.model)
        series = self._series.get(of)
        if series is None:  # looking up a child by its labels takes longer than counting
            series = self._series[of] = _Series(self, of)
        series.status(exchange.status).inc()
        series.duration.observe(now - exchange.started)
        if exchange.first_byte_at is not None:
            series.first_byte.observe(exchange.first_byte_at - exchange.started)
        if exchange.error:
            self.errors.labels(*series.of, exchange.error).inc()
        if (usage := exchange.usage) is not None:
            series.prompt.inc(usage.prompt)
            series.completion.inc(usage.completion)
        if exchange.first_token_at is not None:
            series.first_token.observe(exchange.first_token_at - exchange.started)
        return of

    def pace(self, expert: str, model: str, clock: Callable[[], float]) -> Pace:
        """Return what measures a stream of an expert."""
        of = (expert, model)
        series = self._series.get(of)
        if series is None:
            series = self._series[of] = _Series(self, of)
        return Pace(series.inter_token.observe, clock)

    def series(self) -> Collection[_Series]:
        """Return the metrics of each expert and model that there were requests for."""
        return self._series.values()

    def has(self, expert: str, model: str) -> bool:
        """Whether an expert is served with a model, or was until lately."""
        of = (expert, model)
        return of in self._kept or (of in self._series and bool(expert))

    def judged(self, expert: str, model: str, signal: Signal, *, good: bool) -> None:
        """Count a judgement of an answer, unless its expert and model are gone by now."""
        if not self.has(expert, model):
            return
        if (expert, model) not in self._series:  # which is also what `follow` forgets by
            self._series[expert, model] = _Series(self, (expert, model))
        self.quality.labels(expert, model, signal, "true" if good else "false").inc()

    def left_out(self, signal: Signal, why: str) -> None:
        """Count an answer that was to be judged, and was not."""
        self.quality_left_out.labels(signal, why).inc()

    def waited(self, expert: str, outcome: Waited, waited_s: float) -> None:
        """Count a request that had to wait, or could not."""
        if outcome != "full":
            self.queue_wait.labels(expert, outcome).observe(waited_s)
        if outcome in ("full", "timeout"):
            self.queue_refusals.labels(expert, outcome).inc()

    def follow(self, served: Iterable[_Of]) -> None:
        """Forget what belongs to experts and models that neither this topology has nor the one before it had, so that
        many reloads do not fill the memory."""
        wanted = set(served)
        for of in [of for of in self._series if of[0] and of not in wanted | self._kept]:
            del self._series[of]
            labels = {"expert": of[0], "model": of[1]}
            for metric in (
                self.requests, self.errors, self.duration, self.time_to_first_byte, self.time_to_first_token,
                self.inter_token, self.tokens, self.quality,
            ):  # fmt: skip
                metric.remove_by_labels(labels)
        self._kept = wanted

    def render(self) -> bytes:
        """Return the text that Prometheus scrapes."""
        return generate_latest(self.registry)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"{PREFIX}_{name}", meaning, labels, buckets=buckets, registry=self.registry)


def _bounds(usual: tuple[float, ...], further: Sequence[float] | None) -> tuple[float, ...]:
    return tuple(sorted({*usual, *(further or ())}))


class _Series:
    """The metrics of one expert and model, looked up once."""

    __slots__ = (
        "_requests", "completion", "duration", "first_byte", "first_token", "has_expert", "inter_token", "of", "prompt",
        "statuses",
    )  # fmt: skip

    def __init__(self, metrics: Metrics, who: _Of):
        self.of = of = (who[0] or NO_EXPERT, who[1])
        self._requests = metrics.requests
        self.statuses: dict[int, Any] = {}
        """Counters by status."""
        self.has_expert = bool(who[0])
        self.duration = metrics.duration.labels(*of)
        self.first_byte = metrics.time_to_first_byte.labels(*of)
        if not self.has_expert:
            return  # nobody was asked, so that nothing of these can happen
        self.first_token = metrics.time_to_first_token.labels(*of)
        self.inter_token = metrics.inter_token.labels(*of)
        self.prompt = metrics.tokens.labels(*of, "prompt")
        self.completion = metrics.tokens.labels(*of, "completion")

    def status(self, status: int) -> Counter:
        """Return the counter of answers with a status."""
        found: Counter | None = self.statuses.get(status)
        if found is None:
            found = self.statuses[status] = self._requests.labels(*self.of, str(status))
        return found
