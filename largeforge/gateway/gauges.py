"""States of the gateway as Prometheus metrics, read when they are asked for: nothing of an old topology stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from largeforge.gateway.metrics import PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client import CollectorRegistry

    from largeforge.gateway.backend import Target

BREAKER_STATES = ("closed", "half-open", "open")


class Gauges(Collector):
    """Experts, their servers and their queues."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        targets: Callable[[], Mapping[str, Target]],
        waiting: Callable[[str], int],
    ):
        """Take what tells the experts served now, and how many requests wait for one."""
        self._targets = targets
        self._waiting = waiting
        registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield all states as they are."""
        up = _gauge("upstream_up", "Whether some server of the expert is up and in use.", "expert")
        waiting = _gauge("requests_waiting", "Requests that wait for a busy expert.", "expert")
        replica_up = _gauge("replica_up", "Whether the server answered its last health probe.", "expert", "replica")
        in_use = _gauge(
            "replica_in_use", "Whether the server gets requests: not down, not drained, its breaker not open.",
            "expert", "replica",
        )  # fmt: skip
        drained = _gauge(
            "replica_drained", "Whether the server is drained: operators or the autoscaler want it so.",
            "expert", "replica",
        )  # fmt: skip
        down = _gauge("replica_down", "1 for the reason why the server is down.", "expert", "replica", "reason")
        breaker = _gauge("replica_breaker", "State of the server's circuit breaker.", "expert", "replica", "state")
        outstanding = _gauge(
            "server_outstanding_requests", "Requests that the server has not finished, of all its experts.", "replica"
        )
        seen: dict[str, int] = {}
        for name, target in self._targets().items():
            up.add_metric([name], float(target.is_up))
            waiting.add_metric([name], self._waiting(name))
            for replica in target.replicas:
                server = replica.backend
                of = [name, server.url]
                replica_up.add_metric(of, float(server.state == "up"))
                in_use.add_metric(of, float(server.is_well))
                drained.add_metric(of, float(server.is_drained))
                if server.state == "down":
                    down.add_metric([*of, server.why], 1.0)
                for state in BREAKER_STATES:
                    breaker.add_metric([*of, state], float(server.breaker.state == state))
                seen[server.url] = server.outstanding
        for url, count in seen.items():
            outstanding.add_metric([url], count)
        yield from (up, waiting, replica_up, in_use, drained, down, breaker, outstanding)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Yield nothing, so that registering does not collect."""
        yield from ()


def served(targets: Mapping[str, Target]) -> set[tuple[str, str]]:
    """Return each expert with each of its models."""
    return {(replica.expert, replica.model) for target in targets.values() for replica in target.replicas}


def _gauge(name: str, meaning: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", meaning, labels=labels)
