"""More model servers when requests queue, fewer when they do not.

Several numbers decide, and the largest need wins: requests that wait at the gateway, which is what people notice;
requests at the servers, without which a full server that just about keeps up would be taken away; and each latency that
`slo` promises, so that there are more servers before the promise is broken for long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from largeforge.exporting.kubernetes.objects import labels
from largeforge.monitoring import names, signals
from largeforge.monitoring.indicators import HISTOGRAMS

if TYPE_CHECKING:
    from largeforge.exporting.kubernetes.objects import Context, Object
    from largeforge.exporting.system import ModelServer

UP_S, DOWN_S = 60, 300
"""How long a need must last before servers are started or stopped."""
FULL = 0.8
"""Share of a server's sequences in flight from which another is wanted."""
LATENCY_WINDOW = "2m"

BEHAVIOR = {
    "scaleUp": {
        "stabilizationWindowSeconds": UP_S, "policies": [{"type": "Pods", "value": 1, "periodSeconds": UP_S}],
    },
    "scaleDown": {
        "stabilizationWindowSeconds": DOWN_S, "policies": [{"type": "Pods", "value": 1, "periodSeconds": DOWN_S}],
    },
}  # fmt: skip


def scaler(context: Context, one: ModelServer) -> list[Object]:
    """Return what scales a server; nothing unless it is asked for."""
    if context.config.autoscaling == "hpa":
        return [_hpa(context, one)]
    return [_keda(context, one)] if context.config.autoscaling == "keda" else []


def full(context: Context) -> int:
    """Return the requests at a server from which another is wanted."""
    return max(1, int(FULL * context.system.recipe.serving.max_num_seqs))


@dataclass(frozen=True)
class Need:
    """One number that decides."""

    name: str
    query: str
    series: str
    """The metric that it is made of."""
    target: float
    is_per_server: bool = True
    """Whether the target is for each server; else it is for all of them as they are, such as a latency."""


def needs(context: Context, one: ModelServer) -> list[Need]:
    """Return what decides on a server: what waits for its experts, what is at its replicas, and how slow they are.

    Workers of a gateway share one count of what is at a server; pods of it each have their own.
    """
    experts = f'expert=~"{"|".join(one.experts)}"'
    servers = f'replica=~"http://{one.name}-[0-9]+[.]{one.name}[.]{context.namespace}[.].*"'
    own = names.equals("namespace", context.namespace)
    waiting = names.summed(names.selected(names.WAITING, own, experts))
    outstanding = f"sum(max by (instance, replica) ({names.selected(names.OUTSTANDING, own, servers)}))"
    return [
        Need("waiting", waiting, names.WAITING, context.config.waiting_per_server),
        Need("outstanding", outstanding, names.OUTSTANDING, full(context)),
        *_latencies(context, f"{own},{experts}"),
    ]


def _latencies(context: Context, where: str) -> list[Need]:
    """Return the latencies that are promised; 0 while nobody asks."""
    found = []
    for name, objective in context.system.recipe.slo.objectives.items():
        if histogram := HISTOGRAMS.get(objective.indicator):
            time = signals.quantile(histogram, objective.objective, where, window=LATENCY_WINDOW)
            query = f"({time} > 0) or vector(0)"
            found.append(Need(f"slo-{name}", query, f"{histogram}_bucket", objective.threshold_ms, is_per_server=False))
    return found


def _hpa(context: Context, one: ModelServer) -> Object:
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": one.name},
        "minReplicas": one.replicas,
        "maxReplicas": context.config.max_replicas,
        "metrics": [_external(f"{one.name}-{need.name}", need) for need in needs(context, one)],
        "behavior": BEHAVIOR,
    }
    return context.object("HorizontalPodAutoscaler", one.name, labels(one), api="autoscaling/v2", spec=spec)


def _external(name: str, need: Need) -> Object:
    value = f"{need.target:g}"
    target = (
        {"type": "AverageValue", "averageValue": value} if need.is_per_server else {"type": "Value", "value": value}
    )
    return {"type": "External", "external": {"metric": {"name": name}, "target": target}}


def adapter_rules(context: Context) -> list[Object]:
    """Return rules of prometheus-adapter that make the metrics which the autoscalers read."""
    return [
        {
            "seriesQuery": names.selected(need.series, names.equals("namespace", context.namespace)),
            "resources": {"overrides": {"namespace": {"resource": "namespace"}}},
            "name": {"as": f"{one.name}-{need.name}"},
            "metricsQuery": need.query,
        }
        for one in context.system.servers
        for need in needs(context, one)
    ]


def _keda(context: Context, one: ModelServer) -> Object:
    triggers = [
        {
            "type": "prometheus", "name": need.name, "metricType": "AverageValue" if need.is_per_server else "Value",
            "metadata": {
                "serverAddress": context.config.prometheus_url, "query": need.query, "threshold": f"{need.target:g}",
            },
        }
        for need in needs(context, one)
    ]  # fmt: skip
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": one.name},
        "minReplicaCount": one.replicas, "maxReplicaCount": context.config.max_replicas,
        "pollingInterval": 15, "cooldownPeriod": DOWN_S, "triggers": triggers,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": BEHAVIOR}},
    }  # fmt: skip
    return context.object("ScaledObject", one.name, labels(one), api="keda.sh/v1alpha1", spec=spec)
