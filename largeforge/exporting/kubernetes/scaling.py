"""More model servers when requests queue, fewer when they do not.

Two numbers decide, and the larger need wins: requests that wait at the gateway, which is what people notice, and
requests at the servers, without which a full server that just about keeps up would be taken away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.exporting.kubernetes.objects import labels

if TYPE_CHECKING:
    from largeforge.exporting.kubernetes.objects import Context, Object
    from largeforge.exporting.system import ModelServer

UP_S, DOWN_S = 60, 300
"""How long a need must last before servers are started or stopped."""
FULL = 0.8
"""Share of a server's sequences in flight from which another is wanted."""
WAITING, OUTSTANDING = "largeforge_gateway_requests_waiting", "largeforge_gateway_server_outstanding_requests"

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


def queries(context: Context, one: ModelServer) -> dict[str, str]:
    """Return PromQL for the requests that wait for a server's experts, and for those at its replicas.

    Workers of a gateway share one count of what is at a server; pods of it each have their own.
    """
    experts = "|".join(one.experts)
    servers = f"http://{one.name}-[0-9]+[.]{one.name}[.]{context.namespace}[.].*"
    own = f'namespace="{context.namespace}"'
    return {
        "waiting": f'sum({WAITING}{{{own},expert=~"{experts}"}})',
        "outstanding": f'sum(max by (instance, replica) ({OUTSTANDING}{{{own},replica=~"{servers}"}}))',
    }


def _hpa(context: Context, one: ModelServer) -> Object:
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": one.name},
        "minReplicas": one.replicas,
        "maxReplicas": context.config.max_replicas,
        "metrics": [
            _external(f"{one.name}-waiting", context.config.waiting_per_server),
            _external(f"{one.name}-outstanding", full(context)),
        ],
        "behavior": BEHAVIOR,
    }
    return context.object("HorizontalPodAutoscaler", one.name, labels(one), api="autoscaling/v2", spec=spec)


def _external(name: str, value: int) -> Object:
    target = {"type": "AverageValue", "averageValue": str(value)}
    return {"type": "External", "external": {"metric": {"name": name}, "target": target}}


def adapter_rules(context: Context) -> list[Object]:
    """Return rules of prometheus-adapter that make the metrics which the autoscalers read."""
    return [
        {
            "seriesQuery": f'{WAITING if key == "waiting" else OUTSTANDING}{{namespace="{context.namespace}"}}',
            "resources": {"overrides": {"namespace": {"resource": "namespace"}}},
            "name": {"as": f"{one.name}-{key}"},
            "metricsQuery": query,
        }
        for one in context.system.servers
        for key, query in queries(context, one).items()
    ]


def _keda(context: Context, one: ModelServer) -> Object:
    thresholds = {"waiting": context.config.waiting_per_server, "outstanding": full(context)}
    triggers = [
        {
            "type": "prometheus", "name": key, "metricType": "AverageValue",
            "metadata": {
                "serverAddress": context.config.prometheus_url, "query": query, "threshold": str(thresholds[key]),
            },
        }
        for key, query in queries(context, one).items()
    ]  # fmt: skip
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": one.name},
        "minReplicaCount": one.replicas, "maxReplicaCount": context.config.max_replicas,
        "pollingInterval": 15, "cooldownPeriod": DOWN_S, "triggers": triggers,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": BEHAVIOR}},
    }  # fmt: skip
    return context.object("ScaledObject", one.name, labels(one), api="keda.sh/v1alpha1", spec=spec)
