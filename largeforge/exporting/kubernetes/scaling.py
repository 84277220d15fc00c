"""More model servers when requests queue, fewer when they do not: what `autoscale.targets` decides by, as PromQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from largeforge.autoscale.targets import targets
from largeforge.exporting.kubernetes.objects import labels
from largeforge.monitoring import names, signals
from largeforge.monitoring.indicators import HISTOGRAMS

if TYPE_CHECKING:
    from largeforge.exporting.kubernetes.objects import Context, Object
    from largeforge.exporting.system import ModelServer
    from largeforge.recipe.sections.autoscaling import Scaling

LATENCY_WINDOW = "2m"


def scaler(context: Context, one: ModelServer) -> list[Object]:
    """Return what scales a server; nothing unless it is asked for."""
    if context.config.autoscaling == "hpa":
        return [_hpa(context, one)]
    return [_keda(context, one)] if context.config.autoscaling == "keda" else []


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
    own = names.equals("namespace", context.namespace)
    recipe = context.system.recipe
    found = []
    for target in targets(_settings(context, one), recipe.slo, max_num_seqs=recipe.serving.max_num_seqs):
        match target.kind:
            case "waiting":
                query, series = names.summed(names.selected(names.WAITING, own, experts)), names.WAITING
            case "in_flight":
                servers = f'replica=~"http://{one.name}-[0-9]+[.]{one.name}[.]{context.namespace}[.].*"'
                at_servers = f"max by (instance, replica) ({names.selected(names.OUTSTANDING, own, servers)})"
                query, series = names.summed(at_servers), names.OUTSTANDING
            case "latency":
                assert target.indicator is not None
                histogram = HISTOGRAMS[target.indicator]
                time = signals.quantile(histogram, target.percentile, f"{own},{experts}", window=LATENCY_WINDOW)
                query, series = f"({time} > 0) or vector(0)", f"{histogram}_bucket"  # 0 while nobody asks
            case _:
                continue  # servers tell these themselves, and who scrapes them is the cluster's affair
        found.append(Need(target.name.replace("_", "-"), query, series, target.value, target.is_per_replica))
    return found


def _settings(context: Context, one: ModelServer) -> Scaling:
    return context.system.recipe.autoscaling.of(one.place.base.name)


def _behavior(scaling: Scaling) -> Object:
    up, down = round(scaling.up_s), round(scaling.down_s)
    return {
        "scaleUp": {
            "stabilizationWindowSeconds": up, "policies": [{"type": "Pods", "value": 1, "periodSeconds": max(1, up)}],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": down,
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": max(1, down)}],
        },
    }  # fmt: skip


def _hpa(context: Context, one: ModelServer) -> Object:
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": one.name},
        "minReplicas": one.replicas,
        "maxReplicas": context.config.max_replicas,
        "metrics": [_external(f"{one.name}-{need.name}", need) for need in needs(context, one)],
        "behavior": _behavior(_settings(context, one)),
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
    scaling = _settings(context, one)
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
        "pollingInterval": 15, "cooldownPeriod": round(scaling.down_s), "triggers": triggers,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behavior(scaling)}},
    }  # fmt: skip
    return context.object("ScaledObject", one.name, labels(one), api="keda.sh/v1alpha1", spec=spec)
