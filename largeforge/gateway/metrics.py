"""Prometheus metrics of one gateway, in a registry that is passed in.

Labels only take values that the configuration bounds: expert names, status codes, reasons.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

NO_EXPERT = "none"
"""Label of requests that were refused before an expert was chosen."""

DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class Metrics:
    """The gateway's own metrics."""

    def __init__(self, registry: CollectorRegistry):
        self._registry = registry
        prefix = "largeforge_gateway"
        self.requests = Counter(
            f"{prefix}_requests", "Completion requests by answering expert.", ["expert", "status"], registry=registry
        )
        self.duration = Histogram(
            f"{prefix}_request_duration_seconds",
            "Time from the request until the end of its answer.",
            ["expert"],
            buckets=DURATION_BUCKETS,
            registry=registry,
        )
        self.time_to_first_byte = Histogram(
            f"{prefix}_time_to_first_byte_seconds",
            "Time from the request until the first byte of its answer.",
            ["expert"],
            buckets=DURATION_BUCKETS,
            registry=registry,
        )
        self.fallbacks = Counter(
            f"{prefix}_fallbacks", "Requests that went to the fallback expert.", ["reason"], registry=registry
        )
        self.in_flight = Gauge(f"{prefix}_requests_in_flight", "Requests being answered.", registry=registry)
        self.upstream_up = Gauge(
            f"{prefix}_upstream_up", "Whether the expert's server is up.", ["expert"], registry=registry
        )
        self.retries = Counter(
            f"{prefix}_retries",
            "Further attempts of requests, at another replica.",
            ["expert", "why"],
            registry=registry,
        )
        self.shadows = Counter(
            f"{prefix}_shadows", "Shadow requests by what became of them.", ["expert", "outcome"], registry=registry
        )
        self.waiting = Gauge(
            f"{prefix}_requests_waiting", "Requests that wait for a busy expert.", ["expert"], registry=registry
        )
        self._children: dict[tuple[str, int], tuple[Counter, Histogram, Histogram]] = {}
        for reason in ("unknown-model", "expert-down"):
            self.fallbacks.labels(reason)

    def observe(self, *, expert: str, status: int, duration_s: float, first_byte_s: float | None) -> None:
        """Count one finished completion request."""
        found = self._children.get((expert, status))
        if found is None:  # looking up a child by its labels takes longer than counting
            name = expert or NO_EXPERT
            found = self._children[expert, status] = (
                self.requests.labels(name, str(status)), self.duration.labels(name),
                self.time_to_first_byte.labels(name),
            )  # fmt: skip
        requests, duration, first_byte = found
        requests.inc()
        duration.observe(duration_s)
        if first_byte_s is not None:
            first_byte.observe(first_byte_s)

    def render(self) -> bytes:
        """Return the text that Prometheus scrapes."""
        return generate_latest(self._registry)
